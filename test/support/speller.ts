export * from '../../src/canary/speller.ts'
