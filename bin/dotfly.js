#!/usr/bin/env -S node --no-warnings --max-semi-space-size=1 --v8-pool-size=1 --no-rehash-snapshot
// For npx alone, which keeps the link that it once made into a clone: until there was a dotfly.cjs, this was the program.
import './dotfly.cjs'
