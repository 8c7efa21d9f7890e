use std::io::Write;

use flate2::{
    Compression,
    write::{DeflateEncoder, GzEncoder},
};
use proptest::prelude::*;

use super::*;

const MAX: usize = 1 << 20;

fn plan(unpack: &[Wrapper], format: Format) -> DecodePlan {
    DecodePlan { unpack: unpack.to_vec(), format }
}

fn csv() -> Format {
    Format::Csv(CsvPlan::default())
}

/// The records of bytes that come in pieces of `step`.
fn records_in(plan: &DecodePlan, bytes: &[u8], step: usize) -> Result<Vec<String>, String> {
    let mut decoder = Decoder::new(plan, false, MAX);
    let mut found = Vec::new();
    let mut run = || {
        for piece in bytes.chunks(step) {
            decoder.push(piece)?;
            found.extend(decoder.take_records());
        }
        decoder.finish()?;
        found.extend(decoder.take_records());
        Ok(())
    };
    run().map_err(|error: DecodeError| error.to_string())?;
    Ok(found.iter().map(|it| String::from_utf8(it.bytes().to_vec()).unwrap()).collect())
}

fn records(plan: &DecodePlan, bytes: &[u8]) -> Result<Vec<String>, String> {
    let at_once = records_in(plan, bytes, usize::MAX);
    assert_eq!(records_in(plan, bytes, 1), at_once, "byte by byte");
    assert_eq!(records_in(plan, bytes, 7), at_once, "in sevens");
    at_once
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// How a file stands in an archive.
#[derive(Clone, Copy, PartialEq)]
enum Put {
    Stored,
    Deflated,
    /// Its sizes follow it, as a program writes that does not know them before.
    Streamed,
}

fn zip(files: &[(&str, &[u8], Put)]) -> Vec<u8> {
    let (mut archive, mut directory) = (Vec::new(), Vec::new());
    for (name, content, put) in files {
        let packed = if *put == Put::Stored {
            content.to_vec()
        } else {
            let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(content).unwrap();
            encoder.finish().unwrap()
        };
        let follows = *put == Put::Streamed;
        let mut sizes = crc32fast::hash(content).to_le_bytes().to_vec();
        sizes.extend((packed.len() as u32).to_le_bytes());
        sizes.extend((content.len() as u32).to_le_bytes());
        let mut header = Vec::new();
        for word in
            [20_u16, if follows { 8 } else { 0 }, if *put == Put::Stored { 0 } else { 8 }, 0, 0]
        {
            header.extend(word.to_le_bytes());
        }
        header.extend(if follows { vec![0; 12] } else { sizes.clone() });
        header.extend((name.len() as u16).to_le_bytes());
        header.extend([0, 0]);
        archive.extend(b"PK\x03\x04");
        archive.extend(&header);
        archive.extend(name.bytes());
        archive.extend(&packed);
        if follows {
            archive.extend(b"PK\x07\x08");
            archive.extend(&sizes);
        }
        directory.extend(b"PK\x01\x02\x14\x00");
        directory.extend(&header);
        directory.extend([0; 14]);
        directory.extend(name.bytes());
    }
    archive.extend(directory);
    archive.extend(b"PK\x05\x06");
    archive.extend([0; 18]);
    archive
}

#[test]
fn lines_are_records_with_every_digit() {
    let text = b"\xef\xbb\xbf{\"n\": 12345678901234567890.10}\r\n\n  \n[1]\n{\"last\":true}";
    let found = records(&plan(&[], Format::JsonLines), text).unwrap();
    assert_eq!(found, [r#"{"n": 12345678901234567890.10}"#, "[1]", r#"{"last":true}"#]);
    let wrong = records(&plan(&[], Format::JsonLines), b"{}\n{\n{}").unwrap_err();
    assert_eq!(wrong, "line 2 is not JSON");
}

#[test]
fn rows_are_records_of_texts() {
    let text = "id,name, note\r\n1,\"a, \"\"b\"\"\nc\",\n\n2,\u{e9},x\n3\n";
    let found = records(&plan(&[], csv()), text.as_bytes()).unwrap();
    assert_eq!(
        found,
        [
            r#"{"id":"1","name":"a, \"b\"\nc","note":""}"#,
            r#"{"id":"2","name":"é","note":"x"}"#,
            r#"{"id":"3"}"#,
        ]
    );
    let format = Format::Csv(CsvPlan {
        delimiter: b';',
        columns: Some(vec!["a".to_owned(), "b".to_owned()]),
        skip: 1,
    });
    let found = records(&plan(&[], format), b"Report of today\n1;2\n").unwrap();
    assert_eq!(found, [r#"{"a":"1","b":"2"}"#]);
}

#[test]
fn rows_that_cannot_be_right_are_errors() {
    for (text, expected) in [
        (&b"id,id\n1,2\n"[..], "two columns are called `id`"),
        (b"id,\n1,2\n", "column 2 has no name in the header"),
        (b"id\n1\n1,2\n", "row 3 has 2 cells, but there are 1 columns"),
        (b"id,name\n1,\xff\n", "row 2, cell 2: it is not UTF-8"),
    ] {
        assert_eq!(records(&plan(&[], csv()), text).unwrap_err(), expected);
    }
}

#[test]
fn archives_are_unpacked_as_they_come() {
    let (one, two) = (&b"id\n1\n2\n"[..], &b"id\n3"[..]);
    let ids = ["1", "2", "3"].map(|id| format!("{{\"id\":\"{id}\"}}"));
    for put in [Put::Stored, Put::Deflated, Put::Streamed] {
        let archive = zip(&[("a.csv", one, put), ("dir/", b"", Put::Stored), ("b.csv", two, put)]);
        assert_eq!(records(&plan(&[Wrapper::Zip], csv()), &archive).unwrap(), ids);
    }
    let within = zip(&[("a.gz", &gzip(one), Put::Deflated), ("b.gz", &gzip(two), Put::Stored)]);
    assert_eq!(records(&plan(&[Wrapper::Zip, Wrapper::Gzip], csv()), &within).unwrap(), ids);
    let members = [gzip(b"id\n1\n2"), gzip(b"\n3\n")].concat();
    assert_eq!(records(&plan(&[Wrapper::Gzip], csv()), &members).unwrap(), ids);
    // A server, or something on the way, has unpacked it already.
    assert_eq!(records(&plan(&[Wrapper::Gzip], csv()), b"id\n1\n2\n3\n").unwrap(), ids);
}

#[test]
fn damaged_archives_are_errors() {
    let good = zip(&[("a.csv", b"id\n1\n", Put::Deflated)]);
    let zipped = plan(&[Wrapper::Zip], csv());
    let check = |bytes: &[u8], expected: &str| {
        assert_eq!(records(&zipped, bytes).unwrap_err(), expected);
    };
    check(b"id\n1\n", "zip: this is no zip archive, or it is damaged");
    check(&good[..45], "zip: the archive ends too early");
    let mut other = good.clone();
    other[14] ^= 1;
    check(&other, "zip: a file is damaged: its checksum or size is another");
    let mut locked = good;
    locked[6] |= 1;
    check(&locked, "zip: the archive is encrypted");
    let packed = gzip(b"id\n1\n");
    let cut = records(&plan(&[Wrapper::Gzip], csv()), &packed[..packed.len() - 9]);
    assert!(cut.unwrap_err().starts_with("gzip: "));
}

#[test]
fn bombs_are_cut_off() {
    let lines = plan(&[Wrapper::Gzip], Format::JsonLines);
    let one_line = gzip(&vec![b' '; 2 * MAX]);
    let error = records_in(&lines, &one_line, 1000).unwrap_err();
    assert_eq!(error, "a line is longer than `max_response` allows (1048576 bytes)");
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(&vec![b'\n'; 20 << 20]).unwrap();
    let many = encoder.finish().unwrap();
    let error = records_in(&lines, &many, 1000).unwrap_err();
    assert!(error.starts_with("the archive unpacks to more than 250 times"), "{error}");
    let error = documents(
        &plan(&[Wrapper::Gzip], Format::Json),
        &gzip(&vec![b' '; 2 * MAX]).into(),
        &Described { content_type: None, name: None },
        MAX,
    );
    assert!(matches!(error, Err(DecodeError::TooLarge(..))));
}

/// What is held between two pieces does not grow with what went through.
#[test]
fn tens_of_mebibytes_pass_through_a_few() {
    let row = "1001,\"a name\",129.90,some note that makes the row a little longer\n";
    let piece = row.repeat((64 << 10) / row.len());
    let mut decoder = Decoder::new(&plan(&[], csv()), false, MAX);
    decoder.push(b"id,name,total,note\n").unwrap();
    let (mut found, mut sent) = (0, 0);
    while sent < 48 << 20 {
        decoder.push(piece.as_bytes()).unwrap();
        sent += piece.len();
        let records = decoder.take_records();
        assert!(records.len() <= piece.len() / row.len() + 1);
        found += records.len();
        let Reading::Rows(rows) = &decoder.end.reading else { panic!("rows") };
        assert!(rows.held_bytes() < 64 << 10);
    }
    assert_eq!(found, sent / row.len());
}

#[test]
fn xml_becomes_json() {
    let json = |text: &str| match xml_to_json(text.as_bytes()) {
        Ok(value) => value.to_string(),
        Err(error) => error.to_string(),
    };
    insta::assert_snapshot!(json(
        "<?xml version=\"1.0\"?><!-- c --><feed xmlns:a=\"urn:a\"><e id=\"1\">x &amp; &#233;</e><e><a:n/>\
         <![CDATA[<raw>]]></e><one>12345678901234567890.10</one></feed>"
    ), @r##"{"feed":{"@xmlns:a":"urn:a","e":[{"@id":"1","#text":"x & é"},{"a:n":"","#text":"<raw>"}],"one":"12345678901234567890.10"}}"##);
    for (text, expected) in [
        (
            "<a><b></a>",
            "the response is not XML: byte 6: ill-formed document: expected `</b>`, but `</a>` was found",
        ),
        ("<a>&lol;</a>", "the response is not XML: byte 3: unknown entity `&lol;`"),
        ("<a>", "the response is not XML: it ends within an element"),
        ("no", "the response is not XML: there is no element in it"),
        (&"<a>".repeat(101), "the response is not XML: byte 300: elements nest deeper than 100"),
    ] {
        assert_eq!(json(text), expected);
    }
}

#[test]
fn any_other_file_is_one_record() {
    let described = Described { content_type: Some("application/pdf"), name: Some("a.pdf") };
    let of = |format, body: &'static [u8]| {
        let made = documents(&plan(&[], format), &Bytes::from_static(body), &described, MAX);
        made.map(|all| String::from_utf8(all[0].to_vec()).unwrap()).map_err(|e| e.to_string())
    };
    assert_eq!(
        of(Format::Base64, b"\xff\x00").unwrap(),
        "{\"name\":\"a.pdf\",\"content_type\":\"application/pdf\",\"size\":2,\"sha256\":\
         \"ea5dbf9596d187e9500f23e9a680109475341cf4e81f7e043f7d97152c10772f\",\"content\":\"/wA=\"}"
    );
    assert!(of(Format::Text, b"hello\n").unwrap().ends_with(r#""content":"hello\n"}"#));
    let wrong = "the response is not UTF-8 text from byte 2 on (take decode = \"base64\")";
    assert_eq!(of(Format::Text, b"ab\xff").unwrap_err(), wrong);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_bytes_are_too_odd(bytes in prop::collection::vec(any::<u8>(), 0..200), head in 0..3_usize) {
        let bytes = [[&b"PK\x03\x04"[..], b"\x1f\x8b\x08", b"id\n"][head], &bytes].concat();
        for format in [Format::JsonLines, csv()] {
            for unpack in [&[][..], &[Wrapper::Gzip], &[Wrapper::Zip], &[Wrapper::Zip, Wrapper::Gzip]] {
                let plan = plan(unpack, format.clone());
                let whole = records_in(&plan, &bytes, usize::MAX);
                prop_assert_eq!(records_in(&plan, &bytes, 3).is_ok(), whole.is_ok());
            }
        }
        let _ = xml_to_json(&bytes);
    }
}
