// A guest's program with Anthropic's SDK, which is told nothing but its environment.

import Anthropic from '@anthropic-ai/sdk'
import { print, told } from './told.ts'

print(
  await told(async () => {
    const { data } = await new Anthropic({ maxRetries: 0 }).models.list()
    return { models: data.map(({ id }) => id) }
  }),
)
