/** CPU milliseconds that some work takes this process: unlike a clock's, they don't go on while other programs have the computer. */
export const cpuOf = async (work: () => unknown): Promise<number> => {
  const before = process.cpuUsage()
  await work()
  const { user, system } = process.cpuUsage(before)
  return (user + system) / 1000
}
