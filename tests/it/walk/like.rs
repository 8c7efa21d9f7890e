//! `like`: a stream as a copy of its sibling, and variables of its own.

use serde_json::{Value, json};

use crate::support::{MockServer, Reply, Seen, walk::Walk};

/// Every object has two records, the second on a second page.
fn crm(seen: &Seen) -> Reply {
    let after = seen.param("after");
    let id = if after.is_none() { 1 } else { 2 };
    let next = if after.is_none() { json!("2") } else { Value::Null };
    Reply::json(json!({ "results": [{ "id": id, "path": seen.path() }], "next": next }))
}

const CRM: &str = r#"
[stream.contacts]
key  = "{{ vars.object }}:{{ record.id }}"
with = { object = "{{ vars.object }}" }

[stream.contacts.vars]
object = "contacts"

[stream.contacts.poll]
path    = "/crm/{{ vars.object }}"
records = "$.results[*]"
page    = { by = "cursor", param = "after", next = "$.next", size = 1, size_param = "limit" }
query   = { archived = "false", q = "{{ vars.object }}" }

[stream.contacts.map]
id     = "$.id"
object = "{{ with.object }}"
kind   = "{{ vars.object }}"
"#;

#[tokio::test(start_paused = true)]
async fn a_copy_differs_in_what_it_says() {
    let server = MockServer::start(crm).await;
    let tables = format!(
        "{CRM}\n[stream.deals]\nlike = \"contacts\"\n[stream.deals.vars]\nobject = \"deals\"\n\
         [stream.deals.poll]\nquery = {{ archived = \"true\" }}\n\
         [stream.deals.map]\nid = \"deal {{{{ record.id }}}}\"\n"
    );
    let walk = Walk::new(&server, &tables);
    for (stream, archived) in [("contacts", "false"), ("deals", "true")] {
        let report = walk.poller(stream).run(&|_| {}).await.unwrap();
        assert_eq!(report.accepted, 2);
        let seen = server.seen();
        let last = seen.last().unwrap();
        assert_eq!(last.path(), format!("/crm/{stream}"));
        assert_eq!(last.param("archived").as_deref(), Some(archived));
        assert_eq!(last.param("q").as_deref(), Some(stream));
        assert_eq!(last.param("limit").as_deref(), Some("1"));
    }
    assert_eq!(walk.keys(), ["contacts:1", "contacts:2", "deals:1", "deals:2"]);
    let plan = walk.plan.streams.iter().find(|stream| &*stream.name == "deals").unwrap();
    let mapped = tenon::deliver::prepare(plan, &walk.plan.vars, &walk.events()[2]).unwrap();
    let expected = json!({ "id": "deal 1", "object": "deals", "kind": "deals" });
    assert_eq!(**mapped.value(), expected);
}

#[tokio::test(start_paused = true)]
async fn another_way_of_paging_takes_only_the_size_along() {
    let server = MockServer::start(|seen| {
        let first = seen.param("page").as_deref() == Some("1");
        Reply::json(if first { json!([{ "id": 1 }]) } else { json!([]) })
    })
    .await;
    let own = "page = { by = \"page\", param = \"page\" }\nrecords = \"$[*]\"";
    for tables in [
        // Over the sibling's, and over the source's.
        format!("{CRM}\n[stream.orders]\nlike = \"contacts\"\n[stream.orders.poll]\n{own}\n"),
        format!(
            "page = {{ by = \"cursor\", param = \"after\", next = \"$.next\", size = 1, size_param = \"limit\" }}\n\
             [stream.orders]\nkey = \"$.id\"\n[stream.orders.poll]\npath = \"/orders\"\n{own}\n"
        ),
    ] {
        let walk = Walk::new(&server, &tables);
        assert_eq!(walk.fine().await.accepted, 1);
        assert_eq!(server.seen().last().unwrap().param("limit").as_deref(), Some("1"));
    }
}
