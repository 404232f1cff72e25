export * from '../../src/canary/credentials.ts'
