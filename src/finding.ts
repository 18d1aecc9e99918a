/** Something worth telling about what was looked at. Checking collects these and goes on. */
export interface Finding {
  /** such as OVERLAY_FULL */
  readonly code: string
  readonly severity: 'note' | 'warning' | 'error'
  /** file or device */
  readonly where: string
  /** a sentence for a person */
  readonly message: string
  /** what a structure should say, where that is known */
  readonly expected?: string | number
  /** and what it says */
  readonly found?: string | number
  /** what to do about it */
  readonly remedy?: string
}
