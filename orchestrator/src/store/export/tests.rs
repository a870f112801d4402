use std::{fs, path::PathBuf};

use super::*;

fn sample() -> Records {
    Records {
        version: Version(12),
        epoch: Epoch(2),
        records: vec![
            (Key::new("a", ""), Vec::new()),
            (Key::new("a", "bytes"), vec![0xff, 0, 1]),
            (Key::new("b", "quote\"d"), "{\"text\": \"ä\n\"}".into()),
            (Key::new("b", "z"), b"plain".to_vec()),
        ],
    }
}

fn written() -> (tempfile::TempDir, PathBuf, Vec<u8>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("e");
    let mut text = Vec::new();
    write(&mut text, &sample()).unwrap();
    fs::write(&path, &text).unwrap();
    (dir, path, text)
}

#[test]
fn what_is_written_is_read() {
    let (_dir, path, text) = written();
    assert_eq!(read(&path).unwrap(), sample());
    assert_eq!(verify_export(&path).unwrap(), sample().summary());
    let text = String::from_utf8(text).unwrap();
    assert_eq!(text.lines().count(), 6);
    assert!(text.contains(r#""text":"plain""#), "{text}");
    assert!(text.contains(r#""base64":"/wAB""#), "{text}");
}

#[test]
fn a_cut_export_is_refused_at_every_length() {
    let (_dir, path, text) = written();
    for length in 0..text.len() {
        fs::write(&path, &text[..length]).unwrap();
        let result = verify_export(&path);
        assert!(
            matches!(result, Err(Error::BadExport { .. })),
            "{length}: {result:?}"
        );
    }
}

#[test]
fn a_changed_export_is_refused_at_every_byte() {
    let (_dir, path, text) = written();
    for at in 0..text.len() {
        let mut bad = text.clone();
        bad[at] ^= 1;
        fs::write(&path, &bad).unwrap();
        assert!(verify_export(&path).is_err(), "byte {at}");
    }
}

#[test]
fn what_follows_the_end_is_refused() {
    let (_dir, path, mut text) = written();
    text.push(b'\n');
    fs::write(&path, &text).unwrap();
    let error = verify_export(&path).unwrap_err().to_string();
    assert!(
        error.ends_with("line 6: something follows its end"),
        "{error}"
    );
}

#[test]
fn a_newer_format_is_named() {
    let (_dir, path, text) = written();
    let newer = String::from_utf8(text).unwrap().replacen(":1,", ":2,", 1);
    fs::write(&path, newer).unwrap();
    assert!(matches!(
        verify_export(&path),
        Err(Error::UnknownFormat { found: 2, .. })
    ));
}
