//! Packet to text, in the format of `JSON.stringify`: no spaces, no namespace for `/`.

use serde::Serialize;
use serde_json::Value;

/// The head of a packet: type digit, attachment count for the binary types, namespace, id.
fn head(digit: char, attachments: usize, namespace: &str, id: Option<u64>) -> String {
    let mut text = String::with_capacity(64);
    text.push(digit);
    if attachments > 0 {
        text.push_str(&format!("{attachments}-"));
    }
    if namespace != "/" {
        text.push_str(namespace);
        text.push(',');
    }
    if let Some(id) = id {
        text.push_str(&id.to_string());
    }
    text
}

/// An EVENT or BINARY_EVENT. `args` must serialise to an array (a tuple does). The name is put in front of
/// the arguments, the offset behind them.
pub(crate) fn event_text(
    namespace: &str,
    id: Option<u64>,
    name: &str,
    args: &impl Serialize,
    attachments: usize,
    offset: Option<&str>,
) -> Result<String, serde_json::Error> {
    let digit = if attachments > 0 { '5' } else { '2' };
    let mut text = head(digit, attachments, namespace, id);
    text.push('[');
    text.push_str(&serde_json::to_string(name)?);
    let args = array_text(args)?;
    let inner = &args[1..args.len() - 1];
    if !inner.is_empty() {
        text.push(',');
        text.push_str(inner);
    }
    if let Some(offset) = offset {
        text.push(',');
        text.push_str(&serde_json::to_string(offset)?);
    }
    text.push(']');
    Ok(text)
}

/// An ACK or BINARY_ACK. `args` must serialise to an array.
pub(crate) fn ack_text(
    namespace: &str,
    id: u64,
    args: &impl Serialize,
    attachments: usize,
) -> Result<String, serde_json::Error> {
    let digit = if attachments > 0 { '6' } else { '3' };
    let mut text = head(digit, attachments, namespace, Some(id));
    text.push_str(&array_text(args)?);
    Ok(text)
}

/// The answer to a CONNECT. `pid` is present only with recovery.
pub(crate) fn connect_text(namespace: &str, sid: &str, pid: Option<&str>) -> String {
    let answer = object(&[("sid", Some(&sid.into())), ("pid", pid.map(Value::from).as_ref())]);
    format!("{}{answer}", head('0', 0, namespace, None))
}

/// The refusal of a CONNECT.
pub(crate) fn connect_error_text(namespace: &str, message: &str, data: Option<&Value>) -> String {
    let answer = object(&[("message", Some(&message.into())), ("data", data)]);
    format!("{}{answer}", head('4', 0, namespace, None))
}

/// A JSON object with the keys in this order, which `serde_json::Map` does not keep. `None` is omitted.
fn object(fields: &[(&str, Option<&Value>)]) -> String {
    let fields = fields.iter().filter_map(|(name, value)| Some(format!("\"{name}\":{}", (*value)?)));
    format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
}

/// A DISCONNECT from the server.
pub(crate) fn disconnect_text(namespace: &str) -> String {
    head('1', 0, namespace, None)
}

fn array_text(args: &impl Serialize) -> Result<String, serde_json::Error> {
    use serde::ser::Error as _;
    let text = match serde_json::to_string(args)? {
        text if text == "null" => "[]".to_owned(),
        text => text,
    };
    if text.starts_with('[') {
        Ok(text)
    } else {
        Err(serde_json::Error::custom("arguments are an array or a tuple"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn events_are_encoded_as_in_the_reference_implementation() {
        let text = |id, args: Value, offset| event_text("/", id, "message-back", &args, 0, offset).unwrap();
        assert_eq!(
            text(None, json!([1, "2", {"3": [true]}]), None),
            r#"2["message-back",1,"2",{"3":[true]}]"#
        );
        assert_eq!(text(Some(0), json!([]), None), r#"20["message-back"]"#);
        assert_eq!(text(None, json!(["x"]), Some("e-7")), r#"2["message-back","x","e-7"]"#);
        assert_eq!(event_text("/a", None, "n", &(1,), 0, None).unwrap(), r#"2/a,["n",1]"#);
        assert_eq!(event_text("/", None, "n", &(), 0, None).unwrap(), r#"2["n"]"#);
        let binary = json!([{"_placeholder": true, "num": 0}]);
        assert_eq!(
            event_text("/", None, "n", &binary, 1, None).unwrap(),
            r#"51-["n",{"_placeholder":true,"num":0}]"#
        );
    }

    #[test]
    fn arguments_that_are_not_an_array_are_refused() {
        assert!(event_text("/", None, "n", &"text", 0, None).is_err());
        assert!(ack_text("/", 1, &json!({}), 0).is_err());
    }

    #[test]
    fn other_packets_are_encoded_as_in_the_reference_implementation() {
        assert_eq!(ack_text("/", 12, &("a",), 0).unwrap(), r#"312["a"]"#);
        assert_eq!(ack_text("/x", 1, &(), 0).unwrap(), "3/x,1[]");
        assert_eq!(connect_text("/", "s", None), r#"0{"sid":"s"}"#);
        assert_eq!(connect_text("/x", "s", Some("p")), r#"0/x,{"sid":"s","pid":"p"}"#);
        assert_eq!(connect_error_text("/", "no", None), r#"4{"message":"no"}"#);
        assert_eq!(
            connect_error_text("/x", "a \"no\"", Some(&json!({"code": 1}))),
            r#"4/x,{"message":"a \"no\"","data":{"code":1}}"#
        );
        assert_eq!(disconnect_text("/"), "1");
        assert_eq!(disconnect_text("/x"), "1/x,");
    }
}
