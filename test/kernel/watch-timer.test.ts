import { mkdir, readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { unpackSample } from '../../scripts/sample.mjs'
import { LIVEOS } from '../support/cli.js'
import { kernelAvailable, runInKernel } from '../support/kernel.js'
import { temporary } from '../support/temporary.js'
import { tool } from '../support/tools.js'

const path = temporary()
const SYSTEMD = '/lib/systemd/systemd'

/** systemd as process 1 of a namespace in the guest, with nothing to start but the proof, and with what users hear by a file. */
const SCRIPT = `
set -euo pipefail
export NODE=$1 LIVEOS=$2 STICK=/run/work/stick
mount -t cgroup2 none /sys/fs/cgroup
mount -t tmpfs units /etc/systemd/system
mount -t tmpfs programs /usr/local/bin
for name in wall systemd-cat; do
  printf '#!/bin/sh\\n{ echo "${'$'}0 $*"; cat; } >>/run/work/told\\n' >/usr/local/bin/$name
  chmod 755 /usr/local/bin/$name
done
for name in sysinit basic timers shutdown umount; do printf '[Unit]\\nDescription=%s\\n' $name >/etc/systemd/system/$name.target; done
printf '[Unit]\\nWants=proof.service\\n' >/etc/systemd/system/proof.target
cat >/etc/systemd/system/proof.service <<UNIT
[Service]
Type=oneshot
ExecStart=/bin/bash /run/work/proof
StandardOutput=append:$OUT/log
StandardError=append:$OUT/log
UNIT
cp -r $OUT/stick $STICK
cat >proof <<PROOF
export PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
samples() { cat /run/liveos/*.jsonl 2>/dev/null | grep -c seconds; }
$NODE $LIVEOS watch $STICK --install --interval 2s --yes
echo installed \\$?
for n in {1..300}; do [ "\\$(samples)" -ge 2 ] && break; sleep 0.1; done
systemctl show --property=ActiveState,Result,NRestarts liveos-watch-run-work-stick.timer >$OUT/timer
systemctl show --property=Result liveos-watch-run-work-stick.service >$OUT/service
cp /run/liveos/*.jsonl $OUT/samples
cp /run/work/told $OUT/told
cp $STICK/LiveOS/watch-* $OUT/history
$NODE $LIVEOS watch $STICK --uninstall --yes
echo removed \\$?
systemctl list-timers --all --no-pager --no-legend >$OUT/timers
ls /etc/systemd/system >$OUT/units
touch $OUT/done
PROOF
env -i container=uml SYSTEMD_UNIT_PATH=/etc/systemd/system PATH=$PATH \\
  unshare --fork --pid --mount-proc ${SYSTEMD} --unit=proof.target --log-target=console --show-status=no </dev/null >$OUT/systemd 2>&1 &
for n in {1..180}; do [ -e $OUT/done ] && exit; sleep 1; done
exit 9
`

const { ok, reason } = kernelAvailable()
const why = ok ? (tool(SYSTEMD) && tool('systemctl') ? undefined : 'needs systemd') : reason

// As for promtool: nobody has to have systemd for the tests' sake.
it.skipIf(why !== undefined)(
  `the timer that watch installs is run by systemd, until it is removed${why ? ` (${why})` : ''}`,
  async () => {
    const scratch = await path('guest')
    const out = join(scratch, 'kernel', 'out')
    await mkdir(out, { recursive: true })
    await unpackSample(join(out, 'stick'))
    const { rc, log } = await runInKernel({ script: SCRIPT, scratch, seconds: 220, args: [process.execPath, LIVEOS] })
    const text = (name: string): Promise<string> => readFile(join(out, name), 'utf8').catch(() => '')
    expect(rc, `${log}\n${await text('log')}\n${await text('systemd')}`).toBe(0)
    expect(await text('log')).toMatch(/is installed and running\.\ninstalled 0\n[\s\S]*is removed\.\nremoved 0\n$/)
    const samples = (await text('samples'))
      .split('\n')
      .filter(Boolean)
      .map(line => JSON.parse(line) as { usedBytes: number; seconds: number })
    expect(samples.length).toBeGreaterThanOrEqual(2)
    expect(new Set(samples.map(({ usedBytes }) => usedBytes))).toEqual(new Set([13_754_368]))
    expect(await text('timer')).toContain('ActiveState=active')
    // a warning is no failure of the service
    expect(await text('service')).toBe('Result=success\n')
    expect(await text('history')).toMatch(/^\{"n":1,/)
    // each way once, though it was looked more than once
    const told = (await text('told')).split('\n').filter(line => line.startsWith('/usr/local/bin/'))
    expect(told.sort()).toEqual([
      '/usr/local/bin/systemd-cat --identifier=liveos --priority=warning',
      '/usr/local/bin/wall ',
    ])
    expect(await text('timers')).toBe('')
    expect((await text('units')).split('\n').filter(name => name.includes('liveos'))).toEqual([])
    expect(await readdir(join(out, 'stick', 'LiveOS'))).not.toContain('watch-overlay-LIVE-1A2B-3C4D.jsonl')
  },
  240_000,
)
