import { defineConfig } from 'vitest/config'

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    globalSetup: 'test/support/run-folder.ts',
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
