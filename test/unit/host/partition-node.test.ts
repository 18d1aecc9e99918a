import { expect, it } from 'vitest'
import { devicePath } from '../../../src/host/partition-node.js'

it.each([
  ['sdb3', '/dev/sdb3'],
  ['cciss!c0d0p1', '/dev/cciss/c0d0p1'],
])('%s of sysfs is %s', (name, path) => expect(devicePath(name)).toBe(path))
