import { planTable, type TableOptions } from '../ops/table.js'
import type { TargetInput } from '../ops/target.js'
import { print } from './run.js'
import { ATTENTION, findingLines, paint } from './words.js'

/** `liveos table`: a script on stdout, what there is to say about it on stderr. */
export const table = async (
  input: TargetInput,
  options: TableOptions,
  { json }: { readonly json?: boolean | undefined },
): Promise<number> => {
  const plan = await planTable(input, options)
  print(json, plan, () => [plan.script.trimEnd()])
  for (const line of findingLines(plan.findings, paint(process.stderr))) process.stderr.write(`${line}\n`)
  return plan.findings.some(({ severity }) => severity !== 'note') ? ATTENTION : 0
}
