// What the programs here print for the test that started them: what they got, or how it was refused.

export async function told(work: () => Promise<unknown>): Promise<unknown> {
  try {
    return await work()
  } catch (error) {
    if (!(error instanceof Error)) throw error
    // Each SDK hangs its own things on an error: what is on it is what a program sees.
    return { ...Object.fromEntries(Object.entries(error)), name: error.name, message: error.message }
  }
}

export const print = (value: unknown): boolean => process.stdout.write(JSON.stringify(value))
