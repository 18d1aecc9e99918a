import { stat } from 'node:fs/promises'
import { connect, createServer } from 'node:net'
import { LiveError } from '../error.js'
import { deviceNumber } from './medium.js'

/** A lock that this process holds; the system takes it back when the process ends, however it ends. */
export interface FileLock {
  release(): Promise<void>
}

const nameOf = async (path: string): Promise<string> => {
  const { dev, ino } = await stat(path)
  return `\0liveos-write-${deviceNumber(dev)}-${ino}`
}

const locked = (path: string, cause?: unknown): LiveError =>
  new LiveError(
    'REFUSED',
    `another run of liveos is writing to ${path}: wait until it has ended; liveos serve ends with Ctrl-C, a mount with 'liveos umount DIR'`,
    { path },
    cause,
  )

/**
 * Locks a file of this computer against other runs of liveos, under whatever name and by whatever user. It is a name among the
 * abstract sockets of Linux, so nothing is left behind; elsewhere it locks nothing.
 *
 * @throws REFUSED  another process holds it
 * @see unix(7), abstract socket addresses
 */
export const lockFile = async (path: string): Promise<FileLock> => {
  if (process.platform !== 'linux') return { release: async () => undefined }
  const name = await nameOf(path)
  // An open lock keeps no process alive, and nobody is to connect to it.
  const server = createServer(socket => socket.destroy()).unref()
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) =>
      reject(
        error.code === 'EADDRINUSE'
          ? locked(path, error)
          : new LiveError('IO', `locking ${path}: ${error.message}`, { path }, error),
      ),
    )
    server.listen(name, resolve)
  })
  return { release: () => new Promise<void>(resolve => server.close(() => resolve())) }
}

/** @throws REFUSED  a process has locked the file, this one or another */
export const checkNotLocked = async (path: string): Promise<void> => {
  if (process.platform !== 'linux') return
  const name = await nameOf(path)
  // Asked and not tried: two that look at the same time must not refuse each other.
  const isLocked = await new Promise<boolean>(resolve => {
    const socket = connect(name)
    socket.once('connect', () => resolve(true))
    socket.once('error', () => resolve(false))
    socket.once('close', () => socket.destroy())
  })
  if (isLocked) throw locked(path)
}
