package main

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// wire is one connection that sends requests as they are given: no negotiation, no retries, no metadata.
type wire struct {
	net.Conn
	next int32
}

func dial() *wire {
	c, err := net.DialTimeout("tcp", address, 5*time.Second)
	must(err)
	return &wire{Conn: c}
}

var formatter = kmsg.NewRequestFormatter(kmsg.FormatterClientID("wire"))

// send asks in the given version and does not wait; the answer is read with receive.
func (w *wire) send(r kmsg.Request, version int16) {
	r.SetVersion(version)
	w.next++
	_, err := w.Write(formatter.AppendRequest(nil, r, w.next))
	must(err)
}

func (w *wire) frame() ([]byte, error) {
	if err := w.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return nil, err
	}
	var size [4]byte
	if _, err := io.ReadFull(w, size[:]); err != nil {
		return nil, err
	}
	body := make([]byte, binary.BigEndian.Uint32(size[:]))
	_, err := io.ReadFull(w, body)
	return body, err
}

// receive reads the answer to r and checks that it holds what its version says and nothing more.
func (w *wire) receive(r kmsg.Request) kmsg.Response {
	body, err := w.frame()
	must(err)
	if id := int32(binary.BigEndian.Uint32(body)); id != w.next {
		panic(fmt.Sprintf("correlation id %d, %d was sent", id, w.next))
	}
	body = body[4:]
	answer := r.ResponseKind()
	answer.SetVersion(r.GetVersion())
	if answer.IsFlexible() && r.Key() != 18 {
		if body[0] != 0 {
			panic("tags in an answer's header")
		}
		body = body[1:]
	}
	must(answer.ReadFrom(body))
	if again := answer.AppendTo(nil); len(again) != len(body) {
		panic(fmt.Sprintf("%T version %d has %d bytes, %d were meant", answer, r.GetVersion(), len(body), len(again)))
	}
	return answer
}

func ask[R kmsg.Response](w *wire, r kmsg.Request, version int16) R {
	w.send(r, version)
	return w.receive(r).(R)
}

// isClosed tells whether the broker ends the connection rather than answer.
func (w *wire) isClosed() string {
	if body, err := w.frame(); err == nil {
		return fmt.Sprintf("answered with %d bytes", len(body))
	} else if timeout, ok := err.(net.Error); ok && timeout.Timeout() {
		return "silent"
	}
	return "closed"
}

// code is the protocol's name for an error.
func code(c int16) string {
	if c == 0 {
		return "ok"
	}
	if e, ok := kerr.ErrorForCode(c).(*kerr.Error); ok {
		return e.Message
	}
	return fmt.Sprint(c)
}

type record struct {
	key, value []byte
	at         int64
}

// batch is a record batch to be written by hand; its zero value is one that an ordinary producer could send.
type batch struct {
	records       []record
	producer      int64
	epoch         int16
	sequence      int32
	idempotent    bool
	transactional bool
	control       bool
	magic         int8
	count         int32
	badCRC        bool
}

func one(value string) batch {
	return batch{records: []record{{value: []byte(value), at: time.Now().UnixMilli()}}}
}

func (b batch) bytes() []byte {
	if !b.idempotent {
		b.producer, b.epoch, b.sequence = -1, -1, -1
	}
	if b.magic == 0 {
		b.magic = 2
	}
	count := int32(len(b.records))
	var records []byte
	latest := b.records[0].at
	for i, r := range b.records {
		body := []byte{0}
		body = binary.AppendVarint(body, r.at-b.records[0].at)
		body = binary.AppendVarint(body, int64(i))
		for _, field := range [][]byte{r.key, r.value} {
			if field == nil {
				body = binary.AppendVarint(body, -1)
			} else {
				body = append(binary.AppendVarint(body, int64(len(field))), field...)
			}
		}
		body = append(body, 0)
		records = append(binary.AppendVarint(records, int64(len(body))), body...)
		latest = max(latest, r.at)
	}
	var attributes uint16
	if b.transactional {
		attributes |= 1 << 4
	}
	if b.control {
		attributes |= 1 << 5
	}
	if b.count != 0 {
		count = b.count
	}
	rest := binary.BigEndian.AppendUint16(nil, attributes)
	rest = binary.BigEndian.AppendUint32(rest, uint32(count-1))
	rest = binary.BigEndian.AppendUint64(rest, uint64(b.records[0].at))
	rest = binary.BigEndian.AppendUint64(rest, uint64(latest))
	rest = binary.BigEndian.AppendUint64(rest, uint64(b.producer))
	rest = binary.BigEndian.AppendUint16(rest, uint16(b.epoch))
	rest = binary.BigEndian.AppendUint32(rest, uint32(b.sequence))
	rest = append(binary.BigEndian.AppendUint32(rest, uint32(count)), records...)
	crc := crc32.Checksum(rest, crc32.MakeTable(crc32.Castagnoli))
	if b.badCRC {
		crc++
	}
	out := binary.BigEndian.AppendUint64(nil, 0)
	out = binary.BigEndian.AppendUint32(out, uint32(9+len(rest)))
	out = append(binary.BigEndian.AppendUint32(out, 0xffffffff), byte(b.magic))
	return append(binary.BigEndian.AppendUint32(out, crc), rest...)
}
