use super::*;

fn stored(records: &[(&str, Vec<u8>)]) -> Vec<(RawKey, RawValue)> {
    let mut head = Head::empty(Position::START);
    let mut raw = Vec::new();
    for (id, value) in records {
        let (stored, chunks) = encode(&Key::new("t", *id), value);
        head.replace(None, Some(stored));
        raw.extend(chunks);
    }
    raw.push((Head::key(), head.encode()));
    raw
}

fn assemble(raw: Vec<(RawKey, RawValue)>) -> Result<Option<(Head, Records)>, Damage> {
    let mut assembly = Assembly::default();
    for (key, value) in raw.into_iter().collect::<BTreeMap<_, _>>() {
        assembly.add(&key, &value)?;
    }
    assembly.finish()
}

fn sample() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("", b"no id".to_vec()),
        ("empty", Vec::new()),
        ("long", vec![7; 3 * CHUNK_BYTES + 1]),
        ("one chunk", vec![1; CHUNK_BYTES]),
        ("z\0\0", b"ends like a chunk's number".to_vec()),
        ("z", b"z".to_vec()),
    ]
}

#[test]
fn what_is_encoded_is_assembled() {
    let (head, records) = assemble(stored(&sample())).unwrap().unwrap();
    assert_eq!(head.count, 6);
    let mut expected = sample();
    expected.sort();
    let found: Vec<_> = records
        .records
        .iter()
        .map(|(k, v)| (k.id.as_str(), v.clone()))
        .collect();
    assert_eq!(found, expected);
}

#[test]
fn nothing_stored_is_no_state() {
    assert_eq!(assemble(Vec::new()), Ok(None));
}

#[test]
fn any_flipped_bit_is_noticed() {
    let good = stored(&[("a", b"value".to_vec()), ("b", vec![3; 40])]);
    for pair in 0..good.len() {
        for bit in 0..(good[pair].0.len() + good[pair].1.len()) * 8 {
            let mut bad = good.clone();
            let (key, value) = &mut bad[pair];
            let key_len = key.len();
            let byte = if bit / 8 < key_len {
                &mut key[bit / 8]
            } else {
                &mut value[bit / 8 - key_len]
            };
            *byte ^= 1 << (bit % 8);
            assert!(assemble(bad).is_err(), "bit {bit} of pair {pair}");
        }
    }
}

#[test]
fn any_missing_pair_is_noticed() {
    let good = stored(&sample());
    for missing in 0..good.len() {
        let mut bad = good.clone();
        bad.remove(missing);
        assert!(matches!(assemble(bad), Err(Damage::Broken(_))), "{missing}");
    }
}

#[test]
fn a_record_from_the_past_is_noticed() {
    let mut mixed = stored(&[("a", b"new".to_vec())]);
    mixed[0] = stored(&[("a", b"old".to_vec())])[0].clone();
    assert!(matches!(assemble(mixed), Err(Damage::Broken(_))));
}

#[test]
fn a_newer_format_is_told_from_damage() {
    let mut newer = stored(&[("a", b"v".to_vec())]);
    newer[0].1[0] = FORMAT + 1;
    assert_eq!(assemble(newer), Err(Damage::UnknownFormat(FORMAT + 1)));
}
