import { join } from 'node:path'
import { expect, it } from 'vitest'
import type { Finding } from '../../../src/finding.js'
import { openFolder } from '../../../src/host/folder.js'
import { planCompact, runCompact } from '../../../src/ops/compact.js'
import { planGrow, runGrow } from '../../../src/ops/grow.js'
import { planMergeInPlace, runMergeInPlace } from '../../../src/ops/merge-in-place.js'
import { beginChange } from '../../../src/ops/undo-journal.js'
import { finished, OVERLAY, smallStick } from '../../support/small-stick.js'
import { temporary } from '../../support/temporary.js'

const path = temporary()

const codes = ({ findings }: { readonly findings: readonly Finding[] }): string[] => findings.map(({ code }) => code)

/** A stick with the undo of an earlier change. */
const changed = async (name: string): Promise<{ target: string }> => {
  const { path: target } = await smallStick(await path(name), { raw: true })
  const begun = await beginChange(await openFolder(join(target, 'LiveOS')), OVERLAY, { verb: 'recover' })
  await begun.finish()
  await begun.close()
  return { target }
}

it('that an undo ends is told before, when it can still be run, and not after', async () => {
  const grown = await changed('grow')
  const growPlan = await planGrow(grown, { size: { by: 65536 } })
  expect(codes(growPlan)).toContain('UNDO_ENDS')
  expect(codes(await finished(runGrow(grown, growPlan)))).not.toContain('UNDO_ENDS')
  const compacted = await changed('compact')
  const compactPlan = await planCompact(compacted, {})
  expect(codes(compactPlan)).toContain('UNDO_ENDS')
  expect(codes(await finished(runCompact(compacted, compactPlan)))).not.toContain('UNDO_ENDS')
  const merged = await changed('merge')
  const mergePlan = await planMergeInPlace('merge', merged)
  expect(codes(mergePlan)).toContain('UNDO_ENDS')
  expect(codes(await finished(runMergeInPlace(merged, mergePlan)))).not.toContain('UNDO_ENDS')
})
