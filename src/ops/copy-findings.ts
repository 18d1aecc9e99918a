import type { Finding } from '../finding.js'
import { printableName } from '../fs/name.js'

/** What a copy has to tell: each failure by itself, and what a kind of target keeps of no file once for all. */
export interface CopyFindings {
  /** one that has its own place */
  add(finding: Finding): void
  /** one more file that lost something; `code` and `message` say what, once for all files */
  lose(code: string, message: string, path: string, severity?: Finding['severity']): void
  all(): readonly Finding[]
}

/** Findings that are told one by one; a damaged medium may have millions. */
const MAX_FINDINGS = 1000
const EXAMPLES = 3

export const copyFindings = (): CopyFindings => {
  const single: Finding[] = []
  let untold = 0
  const losses = new Map<string, { finding: Finding; count: number; examples: string[] }>()
  return {
    add(finding) {
      if (single.length < MAX_FINDINGS) single.push(finding)
      else untold++
    },
    lose(code, message, path, severity = 'warning') {
      const known = losses.get(code)
      if (!known) {
        losses.set(code, { finding: { code, severity, where: path, message }, count: 1, examples: [path] })
        return
      }
      known.count++
      if (known.examples.length < EXAMPLES) known.examples.push(path)
    },
    all() {
      const found = [...single]
      for (const { finding, count, examples } of losses.values()) {
        const names = examples.map(printableName).join(', ')
        found.push({
          ...finding,
          message: `${finding.message}: ${count} (${names}${count > examples.length ? ', …' : ''})`,
        })
      }
      if (untold > 0)
        found.push({
          code: 'MORE_FINDINGS',
          severity: 'error',
          where: single[0]!.where,
          message: `${untold} more findings were not kept`,
        })
      return found
    },
  }
}

/** What was made, by kind. */
export interface CopyCounts {
  files: number
  directories: number
  symlinks: number
  hardLinks: number
  /** devices and fifos */
  special: number
  /** of files, hard links not counted again */
  bytes: number
}

export const noCounts = (): CopyCounts => ({
  files: 0,
  directories: 0,
  symlinks: 0,
  hardLinks: 0,
  special: 0,
  bytes: 0,
})
