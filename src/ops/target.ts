export type { Finding } from '../finding.js'
export { printableName } from '../fs/name.js'
export { type OpenTarget, openTarget } from '../liveos/open-target.js'
export { findTarget, type Target, type TargetInput, type WritableTarget } from '../liveos/target.js'
