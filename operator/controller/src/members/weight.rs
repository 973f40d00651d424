//! What JSON takes in memory once it is read: up to a hundred times its bytes,
//! so that a limit of bytes alone does not hold a member off.

use super::connection::RequestError;

/// The most that one answer, or one line of a watch, may take. Pages that
/// would take more are asked for in smaller ones; one object of 1.5 MiB takes
/// less unless it is made of little else than objects of one short field.
const LIMIT: usize = 96 * 1024 * 1024;
/// A node of the tree that holds an object's fields, be it only one.
const OBJECT: usize = 640;
/// A value in a list or an object, with the name of its field.
const VALUE: usize = 96;

/// Refuses what would take too much, by the signs between its values. Those
/// within texts are part of the text: a ConfigMap may hold a file of JSON.
///
/// # Errors
/// When it would.
pub(super) fn check(json: &[u8]) -> Result<(), RequestError> {
    let (mut weight, mut text, mut escaped) = (0, false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = text,
            b'"' => text = !text,
            b'{' if !text => weight += OBJECT,
            b'[' | b',' if !text => weight += VALUE,
            _ => {}
        }
    }
    if weight > LIMIT {
        return Err(RequestError::TooLarge(LIMIT));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn few_bytes_that_would_take_much_are_refused_and_objects_are_not() {
        for piece in ["[],", "0,", "{},", r#"{"":0},"#, r#""a":"b","#] {
            let answer = format!("[{}0]", piece.repeat((15 << 20) / piece.len()));
            assert!(check(answer.as_bytes()).is_err(), "{piece}");
        }
        // Far more than a page of what is usual.
        let pod = json!({"metadata": {"name": "shop-0", "labels": {"app": "shop", "tier": "front"}},
            "spec": {"containers": [{"name": "shop", "image": "shop:1", "ports": [{"containerPort": 8080}]}]},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]}});
        let items = vec![pod; 5_000];
        check(json!({"items": items}).to_string().as_bytes()).unwrap();
        // The largest object that is stored, of hardly anything but structure.
        let schema = json!({"type": "object", "properties": {"a": {"type": "string"}}}).to_string();
        let largest = format!(
            "[{}0]",
            format!("{schema},").repeat((3 << 19) / schema.len())
        );
        check(largest.as_bytes()).unwrap();
        let one_field = format!("[{}0]", r#"{"name":"a"},"#.repeat((3 << 19) / 13));
        check(one_field.as_bytes()).unwrap();
        // Text that is made of signs, with what ends no text.
        let text = json!({"data": {"a": format!("\"\\{}", "{[,".repeat(1 << 19)), "b": "{"}});
        check(text.to_string().as_bytes()).unwrap();
        let after = format!(r#"["\\\"",{}0]"#, "{},".repeat(1 << 19));
        assert!(check(after.as_bytes()).is_err());
    }
}
