import { writeFileSync } from 'node:fs'

/** A vitest reporter that prints nothing: leaves counts and the names of skipped tests in the file $LIVEOS_TEST_COUNTS. */
export default class CountTests {
  onTestRunEnd(modules, errors) {
    const counts = { passed: 0, failed: 0, skipped: 0, skippedNames: [] }
    for (const module of modules) {
      // A file that can't be loaded, or a failing hook, has no failed test to count.
      const before = counts.failed
      for (const test of module.children.allTests()) {
        const { state } = test.result()
        counts[state === 'passed' || state === 'failed' ? state : 'skipped']++
        if (state === 'skipped') counts.skippedNames.push(`${module.relativeModuleId}: ${test.fullName}`)
      }
      if (counts.failed === before && module.state() === 'failed') counts.failed++
    }
    if (errors.length > 0) counts.failed++
    writeFileSync(process.env.LIVEOS_TEST_COUNTS, JSON.stringify(counts))
  }
}
