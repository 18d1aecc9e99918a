import { join } from 'node:path'
import { isLiveError } from '../error.js'
import type { Finding } from '../finding.js'
import type { ReadFolder } from '../host/folder.js'
import { advised, marked, pathWord } from '../liveos/advice.js'
import type { Target } from '../liveos/target.js'
import { RESTORE_STATE, type RestoreState, readRestoreState } from './restore-state.js'

/** Restores of a target that are running or were cut short, with what is to be run. One that can't be read is told too. @throws IO */
export const restoresLeft = async (target: Target, severity: Finding['severity']): Promise<readonly Finding[]> => {
  const { base, overlay } = target
  const folders: ReadFolder[] = [base.folder]
  if (overlay && overlay.folder.path !== base.folder.path) folders.push(overlay.folder)
  const found: Finding[] = []
  for (const folder of folders) {
    const where = join(folder.path, RESTORE_STATE)
    let state: RestoreState | 'unreadable' | undefined
    try {
      state = await readRestoreState(folder)
    } catch (error) {
      // of another version, or another user's
      if (!isLiveError(error) || error.code === 'IO') throw error
      const message = `a restore is running or was cut short: ${error.message}`
      found.push({ code: 'RESTORE_INTERRUPTED', severity, where, message })
    }
    if (state === undefined) continue
    const tell = (message: string, words: (address: string) => string): void =>
      void found.push({ code: 'RESTORE_INTERRUPTED', severity, where, message, remedy: advised(target, words) })
    const again = (address: string, file: string): string => marked(`liveos restore ${address} ${file}`)
    const abandon = (address: string): string => marked(`liveos restore ${address} --abandon`)
    if (state === 'unreadable')
      tell(
        'a restore was cut short before it wrote anything',
        address => `${again(address, 'FILE')} begins again with the backup FILE, ${abandon(address)} gives it up`,
      )
    else if (state.step === 'writing')
      tell(
        `a restore of ${state.archive.path} is running or was cut short while it wrote its new files; the old ones are all there`,
        address =>
          `${again(address, pathWord(state.archive.path))} goes on with it, ${abandon(address)} gives it up and removes what it wrote`,
      )
    else
      tell(
        `a restore of ${state.archive.path} is running or was cut short while its files took the place of the old ones: some are new, others not yet`,
        address => `${again(address, pathWord(state.archive.path))} finishes it, also where that backup has gone`,
      )
  }
  return found
}
