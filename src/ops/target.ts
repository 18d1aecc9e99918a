export type { Finding } from '../finding.js'
export { findTarget, type Target, type TargetInput } from '../liveos/target.js'
