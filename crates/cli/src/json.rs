//! Laying out JSON for people, without reading it into values: numbers stay as they were written.

/// `json` with a line for each member and item, indented by two.
pub(crate) fn indent(json: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(json.len() * 2);
    let mut depth = 0usize;
    let mut bytes = json.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => {
                out.push(byte);
                // To the closing quote; an escaped one does not close.
                while let Some(inner) = bytes.next() {
                    out.push(inner);
                    match inner {
                        b'\\' => out.extend(bytes.next()),
                        b'"' => break,
                        _ => {}
                    }
                }
            }
            b'{' | b'[' => {
                out.push(byte);
                while bytes.next_if(u8::is_ascii_whitespace).is_some() {}
                match bytes.next_if(|next| matches!(next, b'}' | b']')) {
                    Some(close) => out.push(close),
                    None => {
                        depth += 1;
                        line(&mut out, depth);
                    }
                }
            }
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                line(&mut out, depth);
                out.push(byte);
            }
            b',' => {
                out.push(byte);
                line(&mut out, depth);
            }
            b':' => out.extend_from_slice(b": "),
            byte if byte.is_ascii_whitespace() => {}
            byte => out.push(byte),
        }
    }
    out
}

fn line(out: &mut Vec<u8>, depth: usize) {
    out.push(b'\n');
    out.extend(std::iter::repeat_n(b' ', 2 * depth));
}

#[cfg(test)]
mod tests {
    use super::indent;

    #[test]
    fn only_the_space_between_changes() {
        let json = br#"{"a":[1.10,-0.0,12345678901234567890123],"b":{},"c":[ ],"d":"x,\"{:[ y\\","e":null}"#;
        let expected = r#"{
  "a": [
    1.10,
    -0.0,
    12345678901234567890123
  ],
  "b": {},
  "c": [],
  "d": "x,\"{:[ y\\",
  "e": null
}"#;
        assert_eq!(String::from_utf8_lossy(&indent(json)), expected);
        assert_eq!(indent(expected.as_bytes()), expected.as_bytes());
        assert_eq!(indent(b"42"), b"42");
        assert_eq!(indent(b"\"cut\\"), b"\"cut\\");
    }
}
