export type { Finding } from '../liveos/finding.js'
export { findTarget, type Target, type TargetInput } from '../liveos/target.js'
