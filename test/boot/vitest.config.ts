import { defineConfig } from 'vitest/config'

// `npm run test:boot`: one machine after another, minutes each.
export default defineConfig({
  test: {
    include: ['test/boot/**/*.boot.ts'],
    reporters: ['verbose'],
    fileParallelism: false,
    isolate: false,
    testTimeout: 1_800_000,
    hookTimeout: 1_800_000,
  },
})
