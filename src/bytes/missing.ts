import { type LiveError, unsupported } from '../error.js'
import type { CompressorName } from './codec.js'

/** Builds the UNSUPPORTED error of a codec whose package can't be loaded here. */
export const missingPackage = (name: CompressorName, packageName: string, cause: unknown): LiveError => {
  const platform = `${process.platform}-${process.arch}`
  return unsupported(
    `${name} on this platform`,
    platform,
    `${name} needs the npm package ${packageName}, which can't be loaded: reinstall with "npm ci --include=optional"; if it has no build for this platform, use a computer with x86-64 Linux`,
    cause,
  )
}
