import { LiveError } from '../error.js'

/** A number on a medium that asks for more than there is of it. Offset and sizes are bytes. */
export interface Shortage {
  readonly device: string
  /** where the number stands */
  readonly offset: number
  readonly field: string
  /** what the device has */
  readonly size: number
  /** what it should have at least */
  readonly needed: number
}

/** Builds the CORRUPT error of an image that ends before what it holds: mostly a copy or download of which the end is missing. */
export const cutShort = ({ device, offset, field, size, needed }: Shortage, cause?: unknown): LiveError =>
  new LiveError(
    'CORRUPT',
    `${device} is cut short or damaged: it has ${size} bytes, and by its ${field} at byte ${offset} it needs ${needed} bytes; copy or download it again`,
    { device, offset, field, expected: `at most ${size} bytes`, found: needed },
    cause,
  )
