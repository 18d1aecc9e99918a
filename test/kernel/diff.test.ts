import { mkdir, readFile, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect } from 'vitest'
import { openFile } from '../../src/block/file.js'
import { encodeName } from '../../src/fs/name.js'
import { runDiff } from '../../src/ops/diff.js'
import { judgedChanges, lineOf, stackOn } from '../support/changes-oracle.js'
import { makeExt4, makeExt4Tree } from '../support/ext4-images.js'
import { needKernel, runInKernel } from '../support/kernel.js'
import { finished } from '../support/small-stick.js'
import { temporary } from '../support/temporary.js'

const { it } = needKernel('mke2fs', 'find', 'sha256sum')
const path = temporary()

/** Edits through a real snapshot, which is cut: what was done last stands in the journal alone. */
const SCRIPT = `
set -euo pipefail
set -- $DISKS
look() {
  cd mnt
  find . -mindepth 1 -path ./lost+found -prune -o -type d -printf '%P|d %m %U:%G\\0' \\
    -o -printf '%P|%y %m %U:%G %l %s %T@ %n\\0' >$OUT/$1
  find . -type f -print0 | xargs -0 sha256sum -z >$OUT/$1.sums
  cd ..
}
echo "0 $(blockdev --getsz $1) snapshot $1 $2 P 8" | dmsetup create live
mkdir mnt
mount -t ext4 -o noatime /dev/mapper/live mnt
look before
cd mnt
for n in {1..40}; do echo new $n >new-$n; done
mkdir -p made/by/kernel; cp deep/big made/by/kernel/
mv few renamed; mv many/1* made/
rm -r deep; rm 'size 1023'
chmod 600 'size 60'; chown 7:8 'size 61'; ln 'size 150' made/linked; ln -sfn elsewhere 'link 59'
printf changed | dd of='size 70000' bs=1 seek=30000 conv=notrunc status=none
truncate -s 100 'size 5000'; echo more >>'size 1024'; cp -p holes copy && mv copy holes
rm 'size 59'; mkdir 'size 59'; echo x >'size 59/x'
for f in many/2?\\ *; do cat "$f" >tmp; mv tmp "$f"; done
sync -f .
mkdir journal; mv 'size 60' journal/; ln 'size 61' journal/; chmod 700 'size 1024'; rm 'size 0'; rmdir made/by 2>/dev/null || true
echo last >last; sync last
cd ..
look after
dmsetup status live >$OUT/status
echo 0 >/run/host/rc
echo o >/proc/sysrq-trigger
sleep 30
`

/** Paths with what find and sha256sum told of them. */
const told = async (file: string): Promise<Map<string, string>> => {
  const split = async (name: string): Promise<string[]> =>
    (await readFile(name, 'latin1')).split('\0').filter(line => line !== '')
  const sums = new Map((await split(`${file}.sums`)).map(line => [line.slice(67), line.slice(0, 64)]))
  return new Map(
    (await split(file)).map(line => {
      const [path, rest] = line.split('|') as [string, string]
      return [`/${path}`, `${rest} ${sums.get(path) ?? ''}`]
    }),
  )
}

it('a snapshot cut while mounted: what the kernel showed before and after', async () => {
  const scratch = await path('scratch')
  await mkdir(join(scratch, 'tree'), { recursive: true })
  await makeExt4Tree(join(scratch, 'tree'))
  const base = await makeExt4(join(scratch, 'base.img'), 32, ['-t', 'ext4', '-b', '4096'], join(scratch, 'tree'))
  const overlay = join(scratch, 'overlay.img')
  await writeFile(overlay, '')
  await truncate(overlay, 24 << 20)
  const { log, outDir, rc } = await runInKernel({
    script: SCRIPT,
    scratch,
    disks: [{ path: base, readOnly: true }, overlay],
  })
  expect(rc, log).toBe(0)
  const [before, after] = [await told(join(outDir, 'before')), await told(join(outDir, 'after'))]
  expect(after.size).toBeGreaterThan(300)
  const lines: string[] = []
  for (const [path, line] of before)
    if (!after.has(path)) lines.push(`D ${path}`)
    else if (after.get(path) !== line) lines.push(`M ${path}`)
  for (const path of after.keys()) if (!before.has(path)) lines.push(`A ${path}`)

  const done = await finished(runDiff({ base, overlay }))
  expect(done.findings).toEqual([])
  const renamed = done.changes.filter(({ change }) => change === 'renamed')
  const moved = (path: string, names: (string | undefined)[]): boolean =>
    names.some(name => name !== undefined && path.startsWith(`${name}/`))
  const implied = (line: string): boolean =>
    line.startsWith('D ')
      ? moved(
          line.slice(2),
          renamed.map(({ from }) => from),
        )
      : moved(
          line.slice(2),
          renamed.map(({ path }) => path),
        )
  // Bytes of names, as find gives them.
  const latin = (line: string): string => Buffer.from(encodeName(line)).toString('latin1')
  const ours = done.changes
    // find was not asked for the times of directories
    .filter(({ after: now, changed }) => !(now?.kind === 'directory' && changed.join() === 'mtime'))
    .flatMap(({ path, from, change }) => {
      if (change === 'added') return [`A ${path}`]
      if (change === 'deleted') return [`D ${path}`]
      return change === 'renamed' ? [`D ${from}`, `A ${path}`] : [`M ${path}`]
    })
  expect(ours.map(latin).sort()).toEqual(lines.filter(line => !implied(line)).sort())
  expect(renamed.map(lineOf)).toContain('renamed /renamed from /few')

  const [origin, cow] = [await openFile(base), await openFile(overlay)]
  try {
    await judgedChanges(await stackOn(origin, cow))
  } finally {
    await origin.close()
    await cow.close()
  }
})
