import { writeFile } from 'node:fs/promises'
import { expect, it } from 'vitest'
import { findFirmware, kvmWorks, optionValue } from '../../../src/host/qemu.js'
import { failure } from '../../support/outcome.js'
import { temporary } from '../../support/temporary.js'

const path = temporary()

it('takes the first firmware that is there with its variables', async () => {
  const [code, variables, missing] = [await path('CODE.fd'), await path('VARS.fd'), await path('none.fd')]
  for (const name of [code, variables]) await writeFile(name, 'x')
  const whole = { code, variables: undefined }
  expect(await findFirmware([{ code, variables: missing }, { code: missing, variables: undefined }, whole])).toBe(whole)
  const both = { code, variables }
  expect(await findFirmware([both, whole])).toBe(both)
  const error = await failure(findFirmware([{ code: missing, variables: undefined }]), 'NOT_FOUND')
  expect(error.data).toMatchObject({ package: 'ovmf' })
})

it('doubles the commas of a value', () => {
  expect(optionValue('a,b,,c')).toBe('a,,b,,,,c')
})

it('takes KVM for working only where it ran a processor', async () => {
  expect(await kvmWorks('/bin/true')).toBe(false)
  expect(await kvmWorks('/nowhere/qemu')).toBe(false)
})
