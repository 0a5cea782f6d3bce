//! The commands for a store in PostgreSQL.

use leadgate_simulator::Options;

use crate::account::Account;
use crate::harness::lead;
use crate::process::{Said, run};
use crate::server::Server;
use crate::store::execute;

async fn command(arguments: &[&str]) -> Said {
    run(arguments).await.into()
}

#[tokio::test]
async fn a_stopped_store_is_copied_checked_and_repaired() {
    let account = Account::open(Options::default(), "").await;
    let world = account.gateway().await;
    world.create(lead("Asha")).await.unwrap();
    let server = Server::shared();
    let database = server.create_database();
    let (from, to) = (
        format!("sqlite://{}/leadgate.db", account.folder.path().display()),
        server.url(&database).replace("leadgate@", "leadgate:secret-word@"),
    );
    let copy = ["store", "copy", "--from", &from, "--to", &to];
    let said = command(&copy).await;
    assert!(said.err.contains("stop the gateway that uses it first"), "{said:?}");
    world.stop().await;
    execute(
        &account,
        "INSERT INTO request (tenant, id, fingerprint, begun) VALUES ('acme', 'b', zeroblob(32), 1)",
    )
    .await;

    let path = account.folder.path().join("postgres.toml");
    let cluster = "[cluster]\nlisten = \"127.0.0.1:50052\"\nsecret = \"0123456789abcdef\"\n";
    std::fs::write(&path, account.settings.replace(&from, &to) + cluster).unwrap();
    let path = path.to_str().unwrap();
    let said = command(&["check", "--config", path]).await;
    assert!(said.out.contains("There is no store yet"), "{said:?}");
    assert!(said.out.contains("warning: store: fsync = off"), "{said:?}");

    let said = command(&copy).await;
    assert!(said.code == Some(0) && said.out.contains("Copied "), "{said:?}");
    assert_eq!(
        server
            .sql(&database, "SELECT count(*) FROM request WHERE id = 'b'")
            .trim(),
        "1"
    );
    let again = command(&copy).await;
    assert!(
        again.code == Some(1) && again.err.contains("already has rows"),
        "{again:?}"
    );
    let said = command(&["check", "--config", path]).await;
    assert!(said.code == Some(0) && said.out.contains(": PostgreSQL "), "{said:?}");

    server.sql(&database, "UPDATE request SET answer = 'nonsense' WHERE id = 'b'");
    let owned = "INSERT INTO tenant_lease (tenant, owner, epoch) VALUES ('acme', 'a', 1)";
    server.sql(&database, owned);
    let repair = ["store", "repair", "--config", path, "--apply"];
    let said = command(&repair).await;
    assert!(
        said.code == Some(1) && said.err.contains("stop all of them first"),
        "{said:?}"
    );
    let said = command(&["check", "--config", path]).await;
    assert!(said.out.contains("Replicas use the store"), "{said:?}");
    server.sql(&database, "UPDATE tenant_lease SET owner = NULL");
    let said = command(&repair).await;
    assert!(said.code == Some(0) && said.out.contains("Moved 1 row(s)"), "{said:?}");
    for text in [&said.out, &said.err, &again.out, &again.err] {
        assert!(!text.contains("secret-word"), "{text}");
    }
}
