import { mkdir, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { openFile } from '../../../src/block/file.js'
import { memory } from '../../../src/block/memory.js'
import { parseTables, printTables } from '../../../src/block/table.js'
import { openTables } from '../../../src/block/table-open.js'
import { shellWord } from '../../../src/host/shell-word.js'
import { planTable } from '../../../src/ops/table.js'
import { failure, sameBytes } from '../../support/outcome.js'
import { OVERLAY, smallStick } from '../../support/small-stick.js'
import { temporary } from '../../support/temporary.js'

const path = temporary()
let count = 0
const fresh = async () => {
  const stick = await smallStick(await path(`stick${count++}`), { raw: true })
  const live = join(stick.path, 'LiveOS')
  return { ...stick, base: join(live, 'rootfs.img'), overlay: join(live, OVERLAY), input: { target: stick.path } }
}
const SECTORS = Math.floor((12 * 16384 + 5000) / 512)

describe('the tables of a view', () => {
  it('read as tables they are the view', async () => {
    const { input, base, overlay, merged } = await fresh()
    const plan = await planTable(input)
    expect(plan).toMatchObject({ verb: 'table', view: 'root', writesTo: 'none', device: '/dev/mapper/liveos' })
    expect(printTables(plan.tables)).toBe(`liveos: 0 ${SECTORS} snapshot $base $overlay P 8\n`)
    const files: Readonly<Record<string, string>> = { $base: base, $overlay: overlay }
    const { devices, close } = await openTables(parseTables(printTables(plan.tables)), word => openFile(files[word]!))
    sameBytes(await devices.get('liveos')!.read(0, plan.size), merged.subarray(0, plan.size))
    await close()
    expect(plan.findings).toMatchObject([{ code: 'TAIL_LEFT_OUT', severity: 'note' }])
    expect(JSON.parse(JSON.stringify(plan))).toEqual(plan)
  })

  it('the base alone is a linear, and a scratch overlay lies over the read-only view', async () => {
    const { input, base, overlay, merged } = await fresh()
    const alone = await planTable({ ...input, baseOnly: true })
    expect(alone).toMatchObject({ view: 'base' })
    expect(printTables(alone.tables)).toBe(`liveos: 0 ${SECTORS} linear $base 0\n`)
    const plan = await planTable(input, { writesTo: 'scratch', name: 'x.1' })
    expect(printTables(plan.tables)).toBe(
      `x.1-ro: 0 ${SECTORS} snapshot $base $overlay P 8\nx.1: 0 ${SECTORS} snapshot /dev/mapper/x.1-ro $scratch PO 8\n`,
    )
    expect(plan.steps.map(({ kind }) => kind)).toEqual(['loop', 'loop', 'scratch', 'table', 'table'])
    const scratch = plan.steps.find(step => step.kind === 'scratch')!
    expect(scratch.size).toBeGreaterThan(plan.size)
    const { devices } = await openTables(plan.tables, async word =>
      word === '$scratch' ? memory(new Uint8Array(1 << 20)) : openFile(word === '$base' ? base : overlay),
    )
    sameBytes(await devices.get('x.1')!.read(0, plan.size), merged.subarray(0, plan.size))
  })

  it('only what is to be written is writable', async () => {
    const { input } = await fresh()
    const writable = async (writesTo: 'none' | 'scratch' | 'overlay') => {
      const { steps } = await planTable(input, { writesTo })
      return steps.flatMap(step =>
        'readOnly' in step && !step.readOnly ? ['variable' in step ? step.variable : step.name] : [],
      )
    }
    expect(await writable('none')).toEqual([])
    expect(await writable('scratch')).toEqual(['liveos'])
    expect(await writable('overlay')).toEqual(['overlay', 'liveos'])
    expect(printTables((await planTable(input, { writesTo: 'overlay' })).tables)).toContain('PO 8')
  })

  it('undoes in the other order, each step once, and says so at the end', async () => {
    const { input } = await fresh()
    const plan = await planTable(input, { writesTo: 'scratch' })
    expect(plan.undo).toEqual([
      'dmsetup remove liveos',
      'dmsetup remove liveos-ro',
      'losetup -d $scratch',
      'rm $scratch_file',
      'losetup -d $overlay',
      'losetup -d $base',
    ])
    expect(plan.script.endsWith(`\n\n${plan.undo.join('\n')}\nEND\n`)).toBe(true)
    for (const command of plan.commands) expect(plan.script).toContain(`\n${command}\n`)
  })

  it('leaves a new overlay out where it may not be written', async () => {
    const { input, overlay } = await fresh()
    await writeFile(overlay, '')
    await truncate(overlay, 1 << 20)
    const plan = await planTable(input)
    expect(plan.findings.map(({ code }) => code)).toContain('OVERLAY_NEW')
    expect(printTables(plan.tables)).toBe(`liveos: 0 ${SECTORS} linear $base 0\n`)
    expect(plan.steps.map(({ kind }) => kind)).toEqual(['loop', 'table'])
    expect(printTables((await planTable(input, { writesTo: 'overlay' })).tables)).toContain(
      'snapshot $base $overlay PO 8',
    )
  })
})

describe('what the kernel would not do is refused', () => {
  it('an http(s) address', async () => {
    const error = await failure(planTable({ target: 'https://example.org/live.iso' }), 'UNSUPPORTED')
    expect(error.message).toContain('liveos serve')
  })

  it('an overlay that is invalid, cut off, or no store', async () => {
    const { input, overlay } = await fresh()
    const { data } = await failure(
      (async () => {
        await writeFile(overlay, Buffer.from([0x53, 0x6e, 0x41, 0x70, 0, 0, 0, 0, 1, 0, 0, 0, 8, 0, 0, 0]), {
          flag: 'r+',
        })
        return planTable(input)
      })(),
      'CORRUPT',
    )
    expect(data).toMatchObject({ field: 'valid' })
    await truncate(overlay, 4096)
    await failure(planTable(input), 'CORRUPT')
    await writeFile(overlay, Buffer.alloc(65536, 7))
    await failure(planTable(input), 'CORRUPT')
    expect((await planTable({ ...input, baseOnly: true })).view).toBe('base')
  })

  it('an OverlayFS', async () => {
    const { path: stick } = await smallStick(await path(`stick${count++}`), { raw: true })
    await mkdir(join(stick, 'LiveOS/overlay-X-1'))
    await writeFile(join(stick, 'LiveOS', OVERLAY), '')
    await failure(planTable({ target: stick }), 'USAGE')
  })

  it('a name that is none, and what does not go together', async () => {
    const { input } = await fresh()
    for (const name of ['', '-x', 'a b', '../x', 'x;reboot', '$(id)', 'x\ny', 'n'.repeat(65)])
      await failure(planTable(input, { name }), 'USAGE')
    await failure(planTable({ ...input, baseOnly: true }, { writesTo: 'overlay' }), 'USAGE')
  })

  it('an overlay that another verb left in the middle is not written', async () => {
    const { input, overlay } = await fresh()
    await writeFile(`${overlay}.undo`, '')
    await failure(planTable(input, { writesTo: 'overlay' }), 'REFUSED')
    expect((await planTable(input)).tables).toHaveLength(1)
  })
})

describe('a word for the shell', () => {
  it.each([
    ['/run/media/LIVE/LiveOS/squashfs.img', '/run/media/LIVE/LiveOS/squashfs.img'],
    ['a b', "'a b'"],
    ["it's", "'it'\\''s'"],
    ['$(reboot) `x` "y" \\ * ?', '\'$(reboot) `x` "y" \\ * ?\''],
    ['café', "'café'"],
    ['', "''"],
    ['~root', "'~root'"],
    ['a\nb', "$'a\\012b'"],
    ["\u001b[31m'\\", "$'\\033[31m\\'\\\\'"],
    ['\u202egnp', "$'\\342\\200\\256gnp'"],
    ['\udcffx', "$'\\377x'"],
    ['a\u00a0b', "$'a\\302\\240b'"],
  ])('%j', (text, word) => {
    expect(shellWord(text)).toBe(word)
  })
})
