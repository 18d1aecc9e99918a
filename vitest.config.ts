import { defineConfig } from 'vitest/config'
import { BaseSequencer, type TestSpecification } from 'vitest/node'

/** Folders whose files take longest, first: one of them begun last would keep one core waiting for the other. */
const SLOW = ['/test/crash/', '/test/kernel/', '/test/conformance/']

class SlowFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const rank = ({ moduleId }: TestSpecification): number => {
      const at = SLOW.findIndex(folder => moduleId.includes(folder))
      return at === -1 ? SLOW.length : at
    }
    // What failed last, or took longest, stays first of its folder.
    return (await super.sort(files)).toSorted((a, b) => rank(a) - rank(b))
  }
}

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    globalSetup: 'test/support/run-folder.ts',
    sequence: { sequencer: SlowFirst },
    pool: 'forks',
    // Tests wait for programs and the kernel a good part of their time: as many files at once as there are cores, not one less.
    // Each file in a process of its own: starting a program takes longer the more memory the process has that starts it (35 ms a GiB).
    maxWorkers: '100%',
    isolate: true,
    testTimeout: 120_000,
    // What is waited for comes late where other programs have the computer.
    expect: { poll: { timeout: 20_000 } },
    hookTimeout: 120_000,
  },
})
