import { type ErrorCode, type ErrorData, isLiveError, LiveError } from '../error.js'
import { CodecError, type Compressor, type CompressorName } from './codec.js'

/** The last message to a worker: it ends by itself. */
export const POOL_END = 'end'

/**
 * One job for a worker: where the block lies in the slot's shared memory, and where a compressed result goes; one that is
 * decompressed comes in memory of its own, or goes where the caller wants it. `memory` comes only when the slot has a new one.
 * Where `shared` is given the block lies there, and not in the slot.
 */
export interface PoolRequest {
  readonly slot: number
  readonly memory?: SharedArrayBuffer
  readonly shared?: SharedArrayBuffer
  readonly inputOffset: number
  readonly inputLength: number
  readonly outputOffset: number
  readonly outputSize: number
  readonly work:
    | { readonly kind: 'decode'; readonly name: CompressorName; readonly capacity: number }
    | { readonly kind: 'decode into'; readonly name: CompressorName; readonly target: Uint8Array }
    | { readonly kind: 'encode'; readonly compressor: Compressor; readonly blockSize: number }
}

/** What a worker gets at its start: two words that both sides see. */
export interface PoolWorkerData {
  readonly control: Int32Array
}

/** Index in `control`: 1 once the worker is to begin nothing new. */
export const STOPPING = 0
/** Index in `control`: 1 while the worker is inside a codec. */
export const INSIDE = 1

/** A worker's answer for a slot: the block decompressed, bytes written or -1 where compressing did not pay, or what went wrong. */
export type PoolReply =
  | { readonly slot: number; readonly bytes: Uint8Array }
  | { readonly slot: number; readonly length: number }
  | { readonly slot: number; readonly failure: PoolFailure }

/** An error in a shape that survives the way between threads. */
export interface PoolFailure {
  readonly kind: 'codec' | 'live' | 'bug'
  readonly message: string
  readonly code?: ErrorCode
  readonly data?: ErrorData
}

/** Packs what a codec threw. */
export const packFailure = (error: unknown): PoolFailure => {
  const message = error instanceof Error ? error.message : String(error)
  if (error instanceof CodecError) return { kind: 'codec', message }
  if (isLiveError(error)) return { kind: 'live', message, code: error.code, data: error.data }
  return { kind: 'bug', message }
}

/** Builds the error again on the other side. */
export const unpackFailure = ({ kind, message, code, data }: PoolFailure): Error => {
  if (kind === 'codec') return new CodecError(message)
  return kind === 'live' ? new LiveError(code ?? 'IO', message, data) : new Error(message)
}
