use proptest::prelude::*;

use super::*;

#[test]
fn a_request_is_written_as_the_protocol_has_it() {
    assert_eq!(&message("")[..], [0, 0, 0, 0, 0]);
    assert_eq!(&message("db")[..], [0, 0, 0, 0, 4, 0x0a, 2, b'd', b'b']);
    let long = message(&"x".repeat(300));
    assert_eq!(&long[..8], [0, 0, 0, 1, 47, 0x0a, 0xac, 0x02]);
}

#[test]
fn an_answer_is_read_as_the_protocol_has_it() {
    let health = |bytes: &'static [u8]| health(Bytes::from_static(bytes));
    assert_eq!(health(&[0, 0, 0, 0, 2, 8, 1]), Ok(()));
    assert_eq!(
        health(&[0, 0, 0, 0, 2, 8, 2]).unwrap_err(),
        "says NOT_SERVING"
    );
    assert_eq!(health(&[0, 0, 0, 0, 2, 8, 9]).unwrap_err(), "says status 9");
    assert_eq!(health(&[0, 0, 0, 0, 0]).unwrap_err(), "says UNKNOWN");
    // Fields of a later version of the protocol are passed over.
    assert_eq!(health(&[0, 0, 0, 0, 6, 0x12, 2, 7, 7, 8, 1]), Ok(()));
    for bad in [
        &[][..],
        &[1, 0, 0, 0, 2, 8, 1],
        &[0, 0, 0, 0, 3, 8, 1],
        &[0, 0, 0, 0, 1, 8],
        &[0, 0, 0, 0, 2, 0x12, 9],
    ] {
        let saw = super::health(Bytes::copy_from_slice(bad)).unwrap_err();
        assert_eq!(saw, "answered something else than a health status");
    }
}

proptest! {
    #[test]
    fn any_answer_is_survived(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        let _ = health(Bytes::from(bytes));
    }

    #[test]
    fn numbers_are_read_as_they_were_written(number: u64) {
        let mut bytes = BytesMut::new();
        put_varint(&mut bytes, number);
        prop_assert_eq!(varint(&mut bytes.freeze()), Some(number));
    }
}
