// What CI boots: whole systems (`npm run test:boot`) where KVM runs, or where LIVEOS_BOOT_MINUTES asks for it; else it says why not.
import { spawnSync } from 'node:child_process'
import { ROOT } from './ready.mjs'

const { findQemu, kvmWorks } = await import('../dist/host/qemu.js')

const reason = async () => {
  try {
    return (await kvmWorks(await findQemu()))
      ? undefined
      : 'KVM runs nothing here, and without it boots take some 25 minutes'
  } catch (error) {
    return error.message
  }
}

const asked = process.env.LIVEOS_BOOT_MINUTES
const why = asked ? undefined : await reason()
if (why)
  process.stdout.write(`skipped: whole boots, npm run test:boot: ${why} (LIVEOS_BOOT_MINUTES=40 asks for them)\n`)
else {
  const env = { ...process.env, LIVEOS_BOOT_MINUTES: asked ?? '40' }
  process.exitCode = spawnSync('npm', ['run', 'test:boot'], { cwd: ROOT, env, stdio: 'inherit' }).status ?? 1
}
