import { writeFile } from 'node:fs/promises'
import { afterEach, expect, it, vi } from 'vitest'
import { findFirmware, findWindow, kvmWorks, optionValue } from '../../../src/host/qemu.js'
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

afterEach(() => vi.unstubAllEnvs())

/** An emulator that knows these windows. */
const knowing = async (...windows: readonly string[]): Promise<string> => {
  const qemu = await path(`qemu-${windows.join('-')}`)
  await writeFile(qemu, `#!/bin/sh\nprintf 'Available display backend types:\\n${windows.join('\\n')}\\n'\n`, {
    mode: 0o755,
  })
  return qemu
}

it.skipIf(process.platform !== 'linux')(
  'opens a window where there is a screen and the emulator has windows',
  async () => {
    const gtk = await knowing('none', 'gtk', 'sdl')
    vi.stubEnv('WAYLAND_DISPLAY', '')
    vi.stubEnv('DISPLAY', '')
    expect(await findWindow(gtk)).toEqual({ why: 'there is no screen here to open a window on' })
    vi.stubEnv('DISPLAY', ':0')
    expect(await findWindow(gtk)).toEqual({ window: 'gtk' })
    expect(await findWindow(await knowing('none', 'sdl'))).toEqual({ window: 'sdl' })
    expect(await findWindow(await knowing('none', 'curses'))).toMatchObject({
      why: 'qemu-system-x86_64 can open no window',
      remedy: expect.stringContaining('qemu-system-gui') as string,
    })
  },
)
