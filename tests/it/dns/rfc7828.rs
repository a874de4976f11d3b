//! RFC 7828: how long a TCP connection may idle.

use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use portolan::answer::Transport;

use super::{Server, query, with_edns};

const KEEPALIVE: u16 = 11;

/// The option's data in the reply to a query, which has the option with `data` or does not have it.
fn keepalive(asked: &str, data: Option<&[u8]>, transport: Transport) -> Option<Vec<u8>> {
    let mut message = with_edns(query(asked), 1232);
    if let Some(data) = data {
        let options = message.edns.as_mut().expect("just added").options_mut();
        options.insert(EdnsOption::Unknown(KEEPALIVE, data.to_vec()));
    }
    let server = Server::new(&[("example.", "www A 192.0.2.1\n")]).start();
    let edns = server.exchange(&message, transport).edns.expect("OPT");
    match edns.option(EdnsCode::from(KEEPALIVE))? {
        EdnsOption::Unknown(KEEPALIVE, data) => Some(data.clone()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn section_3_tcp_clients_that_ask_get_the_timeout_in_tenths_of_a_second() {
    let tenths = 123_u16.to_be_bytes().to_vec();
    for asked in ["www.example. A", "gone.example. A", "elsewhere.test. A"] {
        assert_eq!(keepalive(asked, Some(&[]), Transport::Tcp), Some(tenths.clone()), "{asked}");
        assert_eq!(keepalive(asked, None, Transport::Tcp), None, "{asked}");
        // §3.2.2: over UDP the option is ignored and must not be sent.
        assert_eq!(keepalive(asked, Some(&[]), Transport::Udp), None, "{asked}");
    }
}

#[test]
fn section_3_2_1_the_option_of_a_query_has_no_timeout() {
    assert_eq!(keepalive("www.example. A", Some(&[0, 1]), Transport::Tcp), None);
}
