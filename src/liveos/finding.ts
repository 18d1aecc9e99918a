/** Something worth telling about a stick that was looked at. Checking collects these and goes on. */
export interface Finding {
  /** such as OVERLAY_FULL */
  readonly code: string
  readonly severity: 'note' | 'warning' | 'error'
  /** file or device */
  readonly where: string
  /** a sentence for a person */
  readonly message: string
  /** what to do about it */
  readonly remedy?: string
}
