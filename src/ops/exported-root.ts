import { hasKernelNbd, hasNbdfuse } from '../host/nbd-file.js'
import { type ExportFile, openExportFile, startExport } from './serve-process.js'
import type { ExportDescription } from './serve-view.js'

/** True where this computer can give an export a path: by nbdfuse, or as root by the kernel's nbd. */
export const canExportAsFile = async (): Promise<boolean> => (await hasNbdfuse()) || (await hasKernelNbd())

/**
 * Gives a program a view as a file, without a copy of it; its writes land where the description says. A process of its own
 * serves it, and nothing of this one looks below the mount: where the program waits for the server, this one never does.
 *
 * @param use  runs the program; the export goes on until it has ended
 * @returns  undefined where this computer can't do it; `use` was not called then
 * @throws  what opening the view throws; IO  the last writes were not taken
 */
export const withExportedFile = async <T>(
  description: ExportDescription,
  use: (file: ExportFile) => Promise<T>,
  signal?: AbortSignal,
): Promise<{ readonly value: T } | undefined> => {
  if (!(await canExportAsFile())) return undefined
  const running = await startExport(description, signal ? { signal } : {})
  let value: T
  try {
    // a container may have all that is needed and still not be allowed to mount
    const file = await openExportFile(running).catch(() => undefined)
    if (!file) {
      await running.stop()
      return undefined
    }
    value = await use(file)
    await file.stop()
  } catch (error) {
    await running.stop().catch(() => undefined)
    throw error
  }
  await running.stop()
  return { value }
}
