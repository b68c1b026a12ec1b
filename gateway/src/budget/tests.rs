//! Shares of the budget.

use actix_web::{HttpResponse, body, http::StatusCode, test::TestRequest};

use super::*;

/// A response of `kib` KiB to `user`, from the address 10.0.0.`address`.
fn response(kib: usize, user: &str, address: u8) -> ServiceResponse<EitherBody<Bytes>> {
    let response = HttpResponse::Ok().finish().set_body(Bytes::from(vec![b'x'; kib * 1024]));
    let request = TestRequest::default().to_http_request();
    let peer = Some(([10, 0, 0, address], 1).into());
    request.extensions_mut().insert(Client::of(peer, request.headers(), &[]));
    if let Ok(username) = user.parse() {
        request.extensions_mut().insert(Identity { username, session: String::new() });
    }
    ServiceResponse::new(request, response).map_into_left_body()
}

#[actix_web::test]
async fn large_responses_share_the_budget_and_release_it() {
    let budget = Budget::new(100);
    let warnings = Warnings::default();
    let status = |kib| budget.count(response(kib, "alice", 1), &warnings).status();
    let first = budget.count(response(60, "alice", 1), &warnings);
    assert_eq!(status(60), StatusCode::SERVICE_UNAVAILABLE, "120 KiB of 100");
    assert_eq!(status(16), StatusCode::OK, "small responses are not counted");
    let body = body::to_bytes(first.into_body()).await.ok().unwrap();
    assert_eq!(body, vec![b'x'; 60 * 1024], "complete and in order");
    assert_eq!(status(60), StatusCode::OK, "released");
    assert_eq!(status(60), StatusCode::OK, "also released by a client that disconnects");
    assert!(budget.0.usage().is_empty(), "all reservations are released");
}

#[actix_web::test]
async fn users_and_addresses_have_shares_of_the_budget() {
    // The budget is 800 KiB: 100 for a user, 400 for an address. Each entry is an unread response and whether it is
    // admitted.
    type Responses = &'static [(usize, &'static str, u8, bool)];
    let table: [(&str, Responses); 5] = [
        (
            "one user, several addresses",
            &[(50, "eve", 1, true), (50, "EVE", 2, true), (20, "eve", 3, false), (50, "bob", 1, true)],
        ),
        (
            "a response larger than the share",
            &[(300, "eve", 1, true), (20, "eve", 1, false), (50, "bob", 2, true)],
        ),
        (
            "one address, several users",
            &[
                (99, "a", 1, true),
                (99, "b", 1, true),
                (99, "c", 1, true),
                (99, "d", 1, true),
                (99, "e", 1, false),
                (99, "e", 2, true),
            ],
        ),
        ("anonymous", &[(300, "", 1, true), (150, "", 1, false), (300, "", 2, true)]),
        ("the total", &[(300, "a", 1, true), (300, "b", 2, true), (100, "c", 3, true), (101, "d", 4, false)]),
    ];
    for (name, responses) in table {
        let budget = Budget::new(800);
        let mut unread = Vec::new();
        for &(kib, user, address, is_admitted) in responses {
            let counted = budget.count(response(kib, user, address), &Warnings::default());
            let want = if is_admitted { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
            assert_eq!(counted.status(), want, "{name}: {user} {address}");
            unread.push(counted);
        }
    }
}
