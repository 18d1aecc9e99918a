import { stat } from 'node:fs/promises'
import { createServer } from 'node:net'
import { LiveError } from '../error.js'
import { deviceNumber } from './medium.js'

/** A lock that this process holds; the system takes it back when the process ends, however it ends. */
export interface FileLock {
  release(): Promise<void>
}

/**
 * Locks a file of this computer against other runs of liveos, under whatever name and by whatever user. It is a name among the
 * abstract sockets of Linux, so nothing is left behind; elsewhere it locks nothing.
 *
 * @throws REFUSED  another process holds it
 * @see unix(7), abstract socket addresses
 */
export const lockFile = async (path: string): Promise<FileLock> => {
  if (process.platform !== 'linux') return { release: async () => undefined }
  const { dev, ino } = await stat(path)
  // An open lock keeps no process alive, and nobody is to connect to it.
  const server = createServer(socket => socket.destroy()).unref()
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) =>
      reject(
        error.code === 'EADDRINUSE'
          ? new LiveError(
              'REFUSED',
              `another run of liveos is writing to ${path} (liveos serve or mount with --persist?): stop it first`,
              { path },
            )
          : new LiveError('IO', `locking ${path}: ${error.message}`, { path }, error),
      ),
    )
    server.listen(`\0liveos-write-${deviceNumber(dev)}-${ino}`, resolve)
  })
  return { release: () => new Promise<void>(resolve => server.close(() => resolve())) }
}

/** @throws REFUSED  another process has locked the file */
export const checkNotLocked = async (path: string): Promise<void> => {
  await (await lockFile(path)).release()
}
