//! Keys and a certificate for credentials that are made of such. They protect nothing: whoever reads
//! this has them.

/// As PEM, which is how secrets hold them.
pub fn rsa() -> String {
    pem("PRIVATE KEY", RSA)
}

/// For P-256.
pub fn p256() -> String {
    pem("PRIVATE KEY", P256)
}

/// Of [`p256`], signed by itself.
pub fn certificate() -> String {
    pem("CERTIFICATE", CERTIFICATE)
}

fn pem(what: &str, base64: &str) -> String {
    format!("-----BEGIN {what}-----\n{base64}\n-----END {what}-----\n")
}

/// PKCS #8, 2048 bits.
const RSA: &str = "\
    MIIEvAIBADANBgkqhkiG9w0BAQEFAASCBKYwggSiAgEAAoIBAQCoUlyqzVnup4GZv1lqq0BkVZac73YdU3l8YUBXD/Ma\
    fNJZ/xd925U8T0MgveA1urWLINAAHGQxoY2GhvxRV1Fbx+O4QCVcB7xj4npDVUQS0Oja2L4hTVqy2fTPOAqNYw1TIl9w\
    2lT3JVdPw7gaDXE/Pu1LLdaP+/RD7n8ielrPeefY1R50+ORU5WzPgzdt5wXEQZxqBkkgfWauA7vy+raAyXK4nInAAn/p\
    xRFtHU+AzFjf0f+c5nVnsjLDMhxYhUPCRZRr83LyXBMD+GZbK4BOrs20TgGxLTIY9aiZzGfD5+blms0yuduXpaFKDJ0G\
    htMsvO5kbtpwPWbX9LDNbPkfAgMBAAECggEAFrztj2s8g1ygdCRhEA5V8q03Mo23VICCxaEeP8SZUBIy7lJjRNllaxIV\
    XOEZiS3m5AZeOC2drAYJaCC9tBVKGc5tE5D4GwW2gX3GNhNY0KaPq4SiW+hRth3IZY0fVniI2RqobvEnj4K9V+VLbkWI\
    71obqc9lj+ohgLhr9zyKc5gUP9/dXtROuocy2B74EmTSsoyMpcZ6b/09JrBingCREcZR1kDJ1TdsCPQL7NZPen6BbA4C\
    QmOm+8ULG31EwdrAww3/+iv95VQqGIu2n7nWldkusgzKs4dhF7esjjMTxgnF2bAL0A86TQVqPnZ5uxsWjE6+oXvXoVvI\
    SevSmNASLQKBgQDZtCfCZuOr7bqKT+CZddbv941DBy8s0dSDOc89AI3Qfdu8tKgiCykRxM81KEjzQoci6xrLcQC215nx\
    JyRiViilItDMJooDX1cDwkcT9i5bh6rduIUVnCbIa7gmMcax7zWhg99khB9uJemnVG0wBLfXN8bioCtLUVjyFaNBzLeg\
    LQKBgQDF7mN2Qw6bQf9yWPNjj+3RGm3OpXlab0bkaQXoaFrVWwA6hZjOQy/TGWpn6JlrgwdbSjGmaGvvCJQC9jBj1xah\
    H/d5Fro/9tFHFTmdDZX8WN7hSs23C5xJbDbnXvVDNpr1SPaogHsP8jea1CQd3uW/F14lZiqhR3C1u5KUz8XB+wKBgH1M\
    y3WAcpmKAkuJHeQ1hrgm6w8hG23Yd0/v/e9GWlkdl1NNR1gQxFqNxBT8UsBwEgdu+cUODTMvdFLwDGjs3gftue9GXzkB\
    rrtjHjXHA3d65kUm5rJBZbEFDsAs9geDfoKvu+vGf7CN8aV1WkLA9G7Sk43sUf7Pmzn6ajR891MhAoGAMZNfKDztiKfE\
    MsDi3XosZ+aFwG+j8KnUiNthVm/k6HGtofraZjdf4DEKfNI+szYTfqMbwoF/H1T3tbIyNp+mFF9sXdD6f5DzpClFz/ea\
    LKWZ1bYlxoZK8/z913/qUJZ5w5wt49CigkD5+nbOQQkWZIGW3Ck13kWFjo9XzJwp/UcCgYAxXZjMnWPwPngK3/5jGwDI\
    XBjhSuPV4iA3OUT4xhtIhUpfMj77PMLjyvO4VC2UK5mZ8VNTNBwGi4g3dJUkUxfeYBfgRVw8KV7DGsxN572cuccu89B2\
    1Kww3PbfVhelHGXRd52eqjMUbKv1xeamkFYBnMkCb3bJy79HP0mintANDg==";
/// PKCS #8.
const P256: &str = "\
    MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgBPkjnLP+yoQHotcfsdkT2KwJu3Q49hlPt6S8Pe7xCFOh\
    RANCAASg0rpGNLPzJFr3mfQcD6nGIOi6vi7fmT4oF3H8NxB1meKgAKsI4Fs8R1uZoNQsLSZJESFwqwjEfZ52yk1tALqg";
/// X.509, valid until 2126.
const CERTIFICATE: &str = "\
    MIIBgTCCASegAwIBAgIUTXjYrnqK8EqD/qVjSpzBj0JyuMIwCgYIKoZIzj0EAwIwFTETMBEGA1UEAwwKdGVub24tdGVz\
    dDAgFw0yNjExMjIxODA1NDBaGA8yMTI2MTAyOTE4MDU0MFowFTETMBEGA1UEAwwKdGVub24tdGVzdDBZMBMGByqGSM49\
    AgEGCCqGSM49AwEHA0IABKDSukY0s/MkWveZ9BwPqcYg6Lq+Lt+ZPigXcfw3EHWZ4qAAqwjgWzxHW5mg1CwtJkkRIXCr\
    CMR9nnbKTW0AuqCjUzBRMB0GA1UdDgQWBBQjiZKDN9kd1zE3nSp9dQxFsa0AETAfBgNVHSMEGDAWgBQjiZKDN9kd1zE3\
    nSp9dQxFsa0AETAPBgNVHRMBAf8EBTADAQH/MAoGCCqGSM49BAMCA0gAMEUCIQCtpEzIZQhcoIofgrjzpCjNNRZE9bjV\
    12TyDH69N5FyTgIgPMoCUA5/b3H0xZ3F64rLeMAuvLhwvOidn1+SLQlYfa0=";
