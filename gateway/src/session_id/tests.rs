//! Tables of queries.

use super::*;

#[test]
fn only_an_id_with_text_names_a_session() {
    for named in ["sid=a", "EIO=4&sid=a.b&t=x", "sid=&sid=a", "s%69d=a", "sid=%61"] {
        assert!(names_session(named), "{named}");
    }
    for opens in ["", "EIO=4&transport=polling", "sid=", "sid=&t=x", "xsid=a", "sid", "sid[]=a", "t=sid=a"] {
        assert!(!names_session(opens), "{opens}");
    }
}

#[test]
fn the_suffix_of_a_session_id_names_its_node() {
    let id = "0a".repeat(16);
    assert_eq!(session(&format!("EIO=4&sid={id}.chat-1&t=x")), Session::On("chat-1".into()));
    assert_eq!(session("sid=a%2Ebc"), Session::On("bc".into()));
    for none in ["EIO=4", "", "sid=", "sid=a.b&sid=a.c", "sid[]=a.b"] {
        assert_eq!(session(none), Session::New, "{none}");
    }
    for bad in ["abc", "abc.", ".node", "abc.no.de", "a+c.node", "abc.no_de", "__proto__", "a%00.b"] {
        assert_eq!(session(&format!("sid={bad}")), Session::Malformed, "{bad}");
    }
    assert_eq!(session(&format!("sid=a.{}", "a".repeat(64))), Session::Malformed);
}
