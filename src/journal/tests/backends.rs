//! Overrides and verdicts of backends.

use super::*;

#[tokio::test]
async fn backends_outlive_the_process() {
    let subject = Subject::Backend {
        pool: "api".into(),
        backend: "10.0.0.1:8080".into(),
        address: "10.0.0.1".parse().unwrap(),
    };
    let mut of_backend = verdict("", State::Up);
    of_backend.check.subject = subject;
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open_good(dir.path()).await;
    assert_durable(journal.put(drain(1, "pool/api/10.0.0.1:8080"))).await;
    journal.save(vec![of_backend.clone()]);
    journal.close().await;
    let (_, recalled) = open_good(dir.path()).await;
    assert_eq!(recalled.overrides, [drain(1, "pool/api/10.0.0.1:8080")]);
    assert_eq!(recalled.verdicts, [of_backend]);
}
