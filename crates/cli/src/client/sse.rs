//! Server-sent events, the decoding half.

/// Bytes of one event that are kept at most; a longer one is an error of the server.
const MAX_EVENT_BYTES: usize = 16 << 20;

/// An event was longer than [`MAX_EVENT_BYTES`].
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the server sent an event longer than {MAX_EVENT_BYTES} bytes")]
pub(crate) struct EventTooLong;

/// Turns bytes, however they are cut, into the `data` of events.
#[derive(Debug, Default)]
pub(crate) struct SseDecoder {
    /// Bytes since the last line end.
    line: Vec<u8>,
    /// `data` lines of the event under way, joined by newlines.
    data: Vec<u8>,
    has_data: bool,
    after_carriage_return: bool,
}

impl SseDecoder {
    /// Takes the next bytes and appends the data of every event they complete to `events`.
    ///
    /// # Errors
    /// [`EventTooLong`].
    pub(crate) fn push(&mut self, bytes: &[u8], events: &mut Vec<String>) -> Result<(), EventTooLong> {
        for &byte in bytes {
            let follows_carriage_return = std::mem::replace(&mut self.after_carriage_return, byte == b'\r');
            match byte {
                b'\n' if follows_carriage_return => {}
                b'\n' | b'\r' => self.end_line(events),
                _ => {
                    if self.line.len() + self.data.len() >= MAX_EVENT_BYTES {
                        return Err(EventTooLong);
                    }
                    self.line.push(byte);
                }
            }
        }
        Ok(())
    }

    fn end_line(&mut self, events: &mut Vec<String>) {
        let line = std::mem::take(&mut self.line);
        if line.is_empty() {
            if std::mem::take(&mut self.has_data) {
                let data = std::mem::take(&mut self.data);
                events.push(String::from_utf8_lossy(&data).into_owned());
            }
            return;
        }
        let Some(value) = line.strip_prefix(b"data:") else { return };
        if std::mem::replace(&mut self.has_data, true) {
            self.data.push(b'\n');
        }
        self.data.extend_from_slice(value.strip_prefix(b" ").unwrap_or(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(chunks: &[&[u8]]) -> Vec<String> {
        let mut decoder = SseDecoder::default();
        let mut events = Vec::new();
        for chunk in chunks {
            decoder.push(chunk, &mut events).unwrap();
        }
        events
    }

    #[test]
    fn events_do_not_depend_on_how_bytes_are_cut() {
        let stream = "data: {\"a\":1}\n\n: comment\r\nevent: x\r\ndata:two\r\ndata:  lines\r\n\r\ndata: юг\n\ndata: [DONE]\n\n";
        let expected = ["{\"a\":1}", "two\n lines", "юг", "[DONE]"];
        assert_eq!(decode(&[stream.as_bytes()]), expected);
        let bytes: Vec<&[u8]> = stream.as_bytes().chunks(1).collect();
        assert_eq!(decode(&bytes), expected);
        for cut in 0..stream.len() {
            let (head, tail) = stream.as_bytes().split_at(cut);
            assert_eq!(decode(&[head, tail]), expected, "cut at {cut}");
        }
    }

    #[test]
    fn unfinished_event_is_not_delivered() {
        assert!(decode(&[b"data: half"]).is_empty());
        assert!(decode(&[b"data: half\n"]).is_empty());
    }

    #[test]
    fn endless_event_is_refused() {
        let mut decoder = SseDecoder::default();
        let mut events = Vec::new();
        let block = vec![b'x'; 1 << 20];
        let results: Vec<_> = (0..17).map(|_| decoder.push(&block, &mut events)).collect();
        assert_eq!(results.iter().position(Result::is_err), Some(16));
    }
}
