// What `<iss>/.well-known/openid-configuration` says. No capture of the real one is public: the shape is a guess from
// what relying parties need (AWS reads the first five, and insists on them).

export const discovery = (iss: string): object => ({
  issuer: iss,
  jwks_uri: `${iss}/.well-known/jwks`,
  response_types_supported: ['id_token'],
  subject_types_supported: ['public'],
  id_token_signing_alg_values_supported: ['RS256'],
  claims_supported:
    'iss aud sub jti iat nbf exp org_id org_name app_id app_name machine_id machine_name machine_version image image_digest region'.split(
      ' ',
    ),
  scopes_supported: ['openid'],
})
