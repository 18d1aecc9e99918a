import { chmod, link, lstat, mkdtemp, rm, unlink } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import { LiveError, systemError } from '../error.js'
import { openTemporary } from './temporary.js'

/** A place for a Unix socket that nobody else can reach before it is closed to them. */
export interface SocketPlace {
  /** where to listen, in a directory of the caller's alone */
  readonly listenAt: string
  /** absolute path by which clients reach it once it is published */
  readonly path: string
  /** Gives the socket mode 0600 and its name. @throws REFUSED  something of that name is there */
  publish(): Promise<void>
  /** Removes what is left of it. */
  remove(): Promise<void>
}

/** sun_path without its NUL; Node would cut a longer one off without a word. @see unix(7) */
const MOST_BYTES = 107

const checkLength = (path: string): void => {
  if (Buffer.byteLength(path) > MOST_BYTES)
    throw new LiveError('USAGE', `${path} is too long for a socket: at most ${MOST_BYTES} bytes are possible`, { path })
}

/**
 * Makes a place for a socket.
 *
 * @param wanted  where clients are to find it; without it a temporary directory is made
 * @throws USAGE  the path is too long; NOT_FOUND, READ_ONLY  its directory; REFUSED  something is there
 */
export const socketPlace = async (wanted?: string): Promise<SocketPlace> => {
  if (wanted === undefined) {
    const folder = await openTemporary('serve')
    const path = join(folder.path, 'nbd.sock')
    checkLength(path)
    return { listenAt: path, path, publish: () => chmod(path, 0o600), remove: folder.remove }
  }
  const path = resolve(wanted)
  if (
    await lstat(path).then(
      () => true,
      () => false,
    )
  )
    throw new LiveError('REFUSED', `${path} is there already: remove it, or name another path for the socket`, { path })
  checkLength(path)
  checkLength(join(dirname(path), '.liveos-XXXXXX', 's'))
  const own = await mkdtemp(join(dirname(path), '.liveos-')).catch((error: unknown) => {
    throw systemError(error, `making a socket in ${dirname(path)}`)
  })
  const listenAt = join(own, 's')
  let inode: number | undefined
  return {
    listenAt,
    path,
    async publish() {
      try {
        await chmod(listenAt, 0o600)
        // A second name of the same socket: unlike a rename it takes no place of something that came meanwhile.
        await link(listenAt, path)
        inode = (await lstat(path)).ino
      } catch (error) {
        if (error instanceof Error && 'code' in error && error.code === 'EEXIST')
          throw new LiveError('REFUSED', `${path} is there already`, { path }, error)
        throw systemError(error, `naming the socket ${basename(path)}`)
      }
    },
    async remove() {
      await rm(own, { recursive: true, force: true })
      const now = await lstat(path).catch(() => undefined)
      if (now && now.ino === inode) await unlink(path).catch(() => undefined)
    },
  }
}
