import { assert } from '../../error.js'

/** Pages of a file far away: kept, shared by readers, and fetched ahead of who reads in sequence. */
export interface Pages {
  /** The caller's own bytes. The range was checked. */
  read(offset: number, length: number): Promise<Uint8Array>
}

/** Where the bytes come from. */
export interface PageSource {
  readonly size: number
  /** bytes from the file's start that are known already */
  readonly first: Uint8Array
  /** Fetches a range; `sink` takes all of its bytes in order. */
  fetch(offset: number, length: number, sink: (piece: Uint8Array) => void): Promise<void>
}

/** bytes of a page, and the least that is fetched */
export const PAGE = 65_536
/** pages that are kept: 16 MiB */
const KEPT = 256
/** bytes of the longest range that is asked for */
const LONGEST = 4 << 20
const PAGES_AT_ONCE = LONGEST / PAGE
/** readers in sequence that are followed at a time */
const STREAMS = 8

/** A reader in sequence: where it is, and how many bytes it went without a jump. */
interface Stream {
  end: number
  run: number
}

/**
 * Follows readers. How far ahead to fetch is what the reader went so far, so at most as much as it used is fetched in vain.
 *
 * @returns  bytes to have behind the read; 0 where it follows none
 */
const follow = (streams: Stream[], offset: number, length: number): number => {
  const end = offset + length
  const index = streams.findIndex(stream => offset >= stream.end - PAGE && offset <= stream.end + PAGE)
  const stream = index < 0 ? { end, run: 0 } : streams.splice(index, 1)[0]!
  stream.run += Math.max(0, end - stream.end)
  stream.end = Math.max(end, stream.end)
  streams.push(stream)
  if (streams.length > STREAMS) streams.shift()
  return Math.min(LONGEST, stream.run - (stream.run % PAGE))
}

/** Opens the pages of a source; all are fetched when they are first wanted. */
export const openPages = (source: PageSource): Pages => {
  const { size } = source
  const pageCount = Math.ceil(size / PAGE)
  // A Map iterates in order of insertion, so its first key is the page not used for longest.
  const kept = new Map<number, Promise<Uint8Array>>()
  const streams: Stream[] = []
  const keep = (index: number, page: Promise<Uint8Array>): void => {
    kept.delete(index)
    kept.set(index, page)
    for (const oldest of kept.keys()) {
      if (kept.size <= KEPT) break
      kept.delete(oldest)
    }
  }
  const lengthOf = (index: number): number => Math.min(PAGE, size - index * PAGE)

  /** Fetches pages by one request; each is there for its readers as soon as it is full. */
  const fetchRun = (first: number, count: number): void => {
    const waiting = Array.from({ length: count }, (_, n) => {
      let settle!: { resolve(page: Uint8Array): void; reject(error: unknown): void }
      const promise = new Promise<Uint8Array>((resolve, reject) => {
        settle = { resolve, reject }
      })
      // who wants the page hears of it; one fetched ahead may have no reader
      promise.catch(() => {})
      keep(first + n, promise)
      return { promise, index: first + n, ...settle }
    })
    let at = 0
    let page: Uint8Array | undefined
    let filled = 0
    const sink = (piece: Uint8Array): void => {
      for (let done = 0; done < piece.length; ) {
        page ??= new Uint8Array(lengthOf(first + at))
        const count = Math.min(piece.length - done, page.length - filled)
        page.set(piece.subarray(done, done + count), filled)
        filled += count
        done += count
        if (filled < page.length) continue
        waiting[at++]!.resolve(page)
        page = undefined
        filled = 0
      }
    }
    const start = first * PAGE
    const filling = source.fetch(start, Math.min(size, start + count * PAGE) - start, sink)
    const checked = filling.then(() => assert(at === count, `${count} pages asked for, ${at} fetched`))
    checked.catch(error => {
      for (const { promise, reject, index } of waiting.slice(at)) {
        // a later read tries again
        if (kept.get(index) === promise) kept.delete(index)
        reject(error)
      }
    })
  }

  /** Starts what is missing of the pages from `first` to before `end`, and on to before `ahead` in the same requests. */
  const want = (first: number, end: number, ahead: number): void => {
    for (let at = first; at < ahead; ) {
      if (kept.has(at)) {
        at++
        continue
      }
      // Much is there still: the next request is larger when it waits.
      if (at > end && at - end > (ahead - end) / 2) return
      let stop = at + 1
      while (stop < ahead && !kept.has(stop) && stop - at < PAGES_AT_ONCE) stop++
      fetchRun(at, stop - at)
      at = stop
    }
  }

  for (let index = 0; index * PAGE < source.first.length; index++) {
    const page = new Uint8Array(source.first.subarray(index * PAGE, index * PAGE + lengthOf(index)))
    if (page.length === lengthOf(index)) keep(index, Promise.resolve(page))
  }

  return {
    async read(offset, length) {
      if (length === 0) return new Uint8Array(0)
      const end = offset + length
      const ahead = follow(streams, offset, length)
      const bytes = Buffer.allocUnsafeSlow(length)
      const lastPage = Math.ceil(end / PAGE)
      // A long read goes through the pages in windows, one of them in flight, so that they hold it never whole.
      for (let first = Math.floor(offset / PAGE); first < lastPage; ) {
        const stop = Math.min(lastPage, first + PAGES_AT_ONCE)
        const behind = Math.min(lastPage - stop, PAGES_AT_ONCE) || Math.ceil(ahead / PAGE)
        want(first, stop, Math.min(pageCount, stop + behind))
        const window: Promise<Uint8Array>[] = []
        for (let index = first; index < stop; index++) {
          let page = kept.get(index)
          if (!page) {
            // pushed out by what was fetched since: only where many read at once
            fetchRun(index, 1)
            page = kept.get(index)!
          }
          keep(index, page)
          window.push(page)
        }
        for (const [n, page] of (await Promise.all(window)).entries()) {
          const start = (first + n) * PAGE
          bytes.set(
            page.subarray(Math.max(0, offset - start), Math.min(page.length, end - start)),
            Math.max(0, start - offset),
          )
        }
        first = stop
      }
      return bytes
    },
  }
}
