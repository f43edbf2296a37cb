//! A server that forgets what it gave away gives it no second time.

use model::Timestamp;

use crate::{
    nodes::{digest, ticket, two, until},
    server::Server,
};

#[tokio::test]
async fn a_server_that_has_an_old_copy_back_gives_no_ticket_twice() {
    let mut server = Server::start().await;
    let (one, two) = two(&server).await;
    one.registry.put_ticket(digest(1), ticket(1), Timestamp(0)).await.unwrap();
    assert_eq!(server.ask::<String>(&["SAVE"]).await, "OK");
    assert_eq!(one.registry.take_ticket(&digest(1), Timestamp(0)).await, Ok(Some(ticket(1))));
    server.kill();
    server.start_again().await;
    // The control: the copy has the ticket, and whoever asked for it alone would get it.
    let kept: Option<String> = server.ask(&["GET", &format!("tcpmux:ticket:{}", digest(1))]).await;
    assert!(kept.is_some_and(|kept| kept.contains("topics")), "the copy holds it");
    for node in [&one, &two] {
        let again = until("tickets are given again", async || {
            node.registry.take_ticket(&digest(1), Timestamp(0)).await
        })
        .await;
        assert_eq!(again, None);
    }
}
