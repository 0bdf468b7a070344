//! Which pages of a mapping are in this process's memory, as Linux counts them.

use std::io::Write;

use sostenuto_formats::SharedBytes;

/// Larger than a few huge pages.
const PART_BYTES: usize = 16 << 20;

/// Parts of the mapped file.
const PARTS: usize = 4;

/// At both ends of a part: what a fault maps beside the page that was asked for, or what goes with a page that is let go;
/// a huge page where the cache has them.
const SLACK_BYTES: usize = 5 << 20;

fn mapped() -> SharedBytes {
    let mut file = tempfile::tempfile().unwrap();
    for part in 0..PARTS {
        file.write_all(&vec![part as u8 + 1; PART_BYTES]).unwrap();
    }
    SharedBytes::map_file(&file).unwrap()
}

fn part(bytes: &SharedBytes, index: usize) -> SharedBytes {
    bytes.slice(index * PART_BYTES..(index + 1) * PART_BYTES).unwrap()
}

/// Resident bytes of the mappings that lie within the address range of `bytes`: advice may have split one into several.
fn resident_bytes(bytes: &SharedBytes) -> usize {
    let address = bytes.as_ptr() as usize;
    let range = address..address + bytes.len();
    let text = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let (mut inside, mut sum) = (false, 0);
    for line in text.lines() {
        let first = line.split(' ').next().unwrap_or_default();
        if let Some((start, _)) = first.split_once('-') {
            inside = usize::from_str_radix(start, 16).is_ok_and(|start| range.contains(&start));
        } else if inside && first == "Rss:" {
            let kibibytes = line.split_whitespace().nth(1).unwrap();
            sum += kibibytes.parse::<usize>().unwrap() * 1024;
        }
    }
    sum
}

#[track_caller]
fn expect_resident(bytes: &SharedBytes, parts: usize) {
    let found = resident_bytes(bytes);
    let expected = parts * PART_BYTES;
    let agrees = found + SLACK_BYTES >= expected && found <= expected + SLACK_BYTES;
    assert!(agrees, "{found} bytes are resident, expected {expected}");
}

#[test]
fn released_pages_leave_and_come_back_with_the_same_bytes() {
    let bytes = mapped();
    expect_resident(&bytes, 0);
    assert!(bytes.iter().all(|&byte| byte > 0));
    expect_resident(&bytes, PARTS);
    part(&bytes, 1).release();
    expect_resident(&bytes, PARTS - 1);
    // Ends that lie within a page: their neighbours come back when they are read.
    bytes.slice(3 * PART_BYTES - 5..4 * PART_BYTES - 9).unwrap().release();
    expect_resident(&bytes, PARTS - 2);
    for index in 0..PARTS {
        assert!(part(&bytes, index).iter().all(|&byte| byte == index as u8 + 1), "part {index}");
    }
    expect_resident(&bytes, PARTS);
    bytes.release();
    expect_resident(&bytes, 0);
}

#[test]
fn made_resident_are_the_asked_for_bytes_alone_and_every_one_is_counted() {
    let bytes = mapped();
    let mut done = 0;
    part(&bytes, 2).make_resident(&mut |count| done += count);
    expect_resident(&bytes, 1);
    assert_eq!(done, PART_BYTES);
    bytes.make_resident(&mut |count| done += count);
    expect_resident(&bytes, PARTS);
    assert_eq!(done, (PARTS + 1) * PART_BYTES);
}

#[test]
fn bytes_that_are_read_once_are_read_and_released_like_others() {
    let bytes = mapped();
    let middle = bytes.slice(PART_BYTES..3 * PART_BYTES).unwrap();
    middle.will_be_read_once();
    assert!(bytes.iter().all(|&byte| byte > 0));
    middle.release();
    expect_resident(&bytes, 2);
    assert_eq!((bytes[PART_BYTES], bytes[2 * PART_BYTES]), (2, 3));
}

#[test]
fn bytes_of_this_process_are_not_let_go_before_their_owner() {
    let bytes = SharedBytes::from_vec(vec![7; PART_BYTES]);
    bytes.will_be_read_once();
    bytes.release();
    let mut done = 0;
    bytes.make_resident(&mut |count| done += count);
    assert!(bytes.iter().all(|&byte| byte == 7));
    assert_eq!(done, PART_BYTES);
}
