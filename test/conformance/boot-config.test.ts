// biome-ignore-all lint/suspicious/noTemplateCurlyInString: these are variables of GRUB
import { execFileSync } from 'node:child_process'
import { readFile, writeFile } from 'node:fs/promises'
import { gzipSync } from 'node:zlib'
import { expect } from 'vitest'
import { openFile } from '../../src/block/file.js'
import { memory } from '../../src/block/memory.js'
import type { ArgumentChange } from '../../src/liveos/boot/arguments.js'
import { type GrubCommand, type GrubScript, grubCommands, parseGrub, printGrub } from '../../src/liveos/boot/grub.js'
import { changeGrubArguments, grubWord, setGrubTimeout, setGrubVariableIn } from '../../src/liveos/boot/grub-edit.js'
import { parseGrubEnv, printGrubEnv, setGrubVariable } from '../../src/liveos/boot/grubenv.js'
import { architectureOf, kernelVersion } from '../../src/liveos/kernel-version.js'
import { armImage, bzImage } from '../support/boot-kernels.js'
import { bootFixture } from '../support/boot-media.js'
import { random } from '../support/random.js'
import { temporary } from '../support/temporary.js'
import { needTools, tool } from '../support/tools.js'

const place = temporary()
const run = (name: string, ...args: string[]): string =>
  execFileSync(tool(name)!, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] })

const SCRIPTS = [
  'f36-grub.cfg',
  'f40-grub.cfg',
  'f42-grub.cfg',
  'f42-efi-grub.cfg',
  'debian-grub.cfg',
  'debian-config.cfg',
]
const parsed = (text: string): GrubScript => parseGrub(Buffer.from(text))

/** True where GRUB's own parser takes the script. */
const accepted = async (script: string): Promise<boolean> => {
  const path = await place('grub.cfg')
  await writeFile(path, script)
  try {
    run('grub-script-check', path)
    return true
  } catch {
    return false
  }
}

const grub = needTools('grub-script-check')

grub.describe('grub-script-check judges', () => {
  grub.it('the scripts of the fixtures, in which we find nothing wrong either', async () => {
    for (const name of SCRIPTS) {
      expect(await accepted(bootFixture(name)), name).toBe(true)
      expect(parsed(bootFixture(name)).problems, name).toEqual([])
    }
  })

  grub.it('what edits print', async () => {
    const values = ['live:UUID=1A2B-3C4D', 'a b', "it's", '$x ${y}', 'a;b}{', '\\', '#', '(x) <y> | & *', "'", 'ü']
    for (const name of SCRIPTS)
      for (const [n, value] of values.entries()) {
        let script = parsed(bootFixture(name))
        const entries = (): GrubCommand[] =>
          [...grubCommands(script.body)].filter(
            ({ words: [first], block }) =>
              first?.parts[0]?.text === 'menuentry' &&
              /\$?linux\S*\s+\S*\//.test(script.text.slice(block?.start, block?.end)),
          )
        const changes: ArgumentChange[] = [
          { set: 'root', value },
          { insert: 'extra', value, after: 'root' },
          { remove: 'quiet' },
        ]
        for (let at = 0; at < entries().length; at++) script = changeGrubArguments(script, entries()[at]!, changes)
        script = setGrubVariableIn(setGrubTimeout(script, n), 'default', value)
        expect(await accepted(Buffer.from(printGrub(script)).toString()), `${name} ${value}`).toBe(true)
      }
  })

  grub.it('what is broken: where GRUB finds nothing wrong, nor do we', async () => {
    const { below, seed } = random()
    const pieces = [
      'menuentry x ',
      '{\n',
      '}\n',
      'if true; then\n',
      'else\n',
      'fi\n',
      'set a=b\n',
      `"q '`,
      `'s "`,
      'echo a \\\n b\n',
      ';',
      'for x in a b; do\n',
      'done\n',
      'echo $a ${b}\n',
      'echo #\n',
      '# c\n',
      'linux {a}\n',
    ]
    let sound = 0
    for (let round = 0; round < 250; round++) {
      const text = Array.from({ length: 1 + below(6) }, () => pieces[below(pieces.length)]).join('')
      if (!(await accepted(text))) continue
      sound++
      expect(parsed(text).problems, `seed ${seed}: ${JSON.stringify(text)}`).toEqual([])
    }
    expect(sound).toBeGreaterThan(5)
  })
})

const env = needTools('grub-editenv')

env.describe('grub-editenv judges', () => {
  env.it('ours reads theirs, theirs reads ours', async () => {
    const path = await place('grubenv')
    run('grub-editenv', path, 'create')
    run('grub-editenv', path, 'set', 'saved_entry=a b', 'kernelopts=root=UUID=1 x\\y', 'gone=1')
    run('grub-editenv', path, 'unset', 'gone')
    const theirs = parseGrubEnv(await readFile(path))
    expect([theirs.valid, theirs.variables.map(({ name, value }) => [name, value])]).toEqual([
      true,
      [
        ['saved_entry', 'a b'],
        ['kernelopts', 'root=UUID=1 x\\y'],
      ],
    ])
    let ours = setGrubVariable(theirs, 'saved_entry', 'other \\ one')
    ours = setGrubVariable(ours, 'next_entry', '2>1')
    ours = setGrubVariable(ours, 'kernelopts', undefined)
    await writeFile(path, printGrubEnv(ours))
    expect(run('grub-editenv', path, 'list')).toBe('saved_entry=other \\ one\nnext_entry=2>1\n')
    run('grub-editenv', path, 'set', 'more=1')
    expect(parseGrubEnv(await readFile(path)).variables.map(({ name }) => name)).toEqual([
      'saved_entry',
      'next_entry',
      'more',
    ])
  })
})

const words = needTools('grub-script-check', 'bash')

words.it('a word that we write for GRUB is a word of a shell with the same text', () => {
  for (const text of ['plain', 'a b', "it's", 'a"b', '$x', '\'$x\\"', 'a;b{}', 'x=*', '#', "'\\"])
    expect(run('bash', '-c', `printf %s ${grubWord(text)}`)).toBe(text)
})

const magic = needTools('file')

magic.describe('file(1) judges', () => {
  magic.it('the version in a bzImage', async () => {
    for (const version of ['6.5.6-300.fc39.x86_64 (mockbuild@x) #1 SMP', '6.1.0-18-amd64 (debian-kernel@x) #1']) {
      const path = await place('vmlinuz')
      await writeFile(path, bzImage(version))
      const told = /bzImage, version (.+?) ?, /.exec(run('file', '-b', path))?.[1]
      const device = await openFile(path)
      expect((await kernelVersion(device))?.description).toBe(told)
      await device.close()
    }
    const path = await place('Image')
    await writeFile(path, armImage('Linux version 6.8.5\0'))
    expect(run('file', '-b', path)).toContain('ARM64')
    expect((await kernelVersion(memory(gzipSync(await readFile(path)))))?.version).toBe('6.8.5')
  })
  magic.it('the architecture of the programs here', async () => {
    const device = await openFile(process.execPath)
    const name = await architectureOf(device)
    await device.close()
    const told = run('file', '-bL', process.execPath)
    expect(told.replace('x86-64', 'x86_64').replace('ARM ', '')).toContain(name)
  })
})
