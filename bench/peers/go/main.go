// httputil.ReverseProxy on a Unix socket. With -scan it blanks the credential in header values and in bodies, as a
// careful user would write it: a reader that finds it across reads, by bytes.Index.
//
//	proxy [-scan] SOCKET PORT FILE
//
// FILE is JSON: credential, needles.
package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"sync"
)

type blank struct {
	from    io.ReadCloser
	needles [][]byte
	longest int
	bytes   []byte // [0, clean) may go out; the rest may be the beginning of a needle
	clean   int
	end     error
}

func (b *blank) Read(to []byte) (int, error) {
	for b.clean == 0 {
		if b.end != nil {
			return 0, b.end
		}
		if len(b.bytes) == cap(b.bytes) {
			grown := make([]byte, len(b.bytes), 2*cap(b.bytes))
			copy(grown, b.bytes)
			b.bytes = grown
		}
		n, err := b.from.Read(b.bytes[len(b.bytes):cap(b.bytes)])
		b.bytes = b.bytes[:len(b.bytes)+n]
		for _, needle := range b.needles {
			for at := 0; ; {
				i := bytes.Index(b.bytes[at:], needle)
				if i < 0 {
					break
				}
				for j := at + i; j < at+i+len(needle); j++ {
					b.bytes[j] = '*'
				}
				at += i + len(needle)
			}
		}
		if b.clean = len(b.bytes) - b.longest + 1; err != nil {
			b.clean, b.end = len(b.bytes), err
		} else if b.clean < 0 {
			b.clean = 0
		}
	}
	n := copy(to, b.bytes[:b.clean])
	b.bytes = b.bytes[:copy(b.bytes, b.bytes[n:])]
	b.clean -= n
	return n, nil
}

func (b *blank) Close() error {
	room.Put(b.bytes[:0])
	return b.from.Close()
}

var room = sync.Pool{New: func() interface{} { return make([]byte, 0, 64<<10) }}

type buffers struct{ sync.Pool }

func (b *buffers) Get() []byte  { return b.Pool.Get().([]byte) }
func (b *buffers) Put(x []byte) { b.Pool.Put(x) }

func main() {
	scan := flag.Bool("scan", false, "blank the credential in answers")
	flag.Parse()
	text, err := os.ReadFile(flag.Arg(2))
	if err != nil {
		log.Fatal(err)
	}
	var task struct {
		Credential string
		Needles    []string
	}
	if err := json.Unmarshal(text, &task); err != nil {
		log.Fatal(err)
	}
	needles, longest := [][]byte{}, 0
	for _, needle := range task.Needles {
		needles = append(needles, []byte(needle))
		if len(needle) > longest {
			longest = len(needle)
		}
	}
	flyd := &url.URL{Scheme: "http", Host: "127.0.0.1:" + flag.Arg(1)}
	proxy := httputil.NewSingleHostReverseProxy(flyd)
	direct := proxy.Director
	proxy.Director = func(r *http.Request) {
		direct(r)
		r.Header.Set("Authorization", task.Credential)
	}
	proxy.Transport = &http.Transport{MaxIdleConnsPerHost: 128, DisableCompression: true, ReadBufferSize: 64 << 10}
	proxy.BufferPool = &buffers{sync.Pool{New: func() interface{} { return make([]byte, 64<<10) }}}
	if *scan {
		proxy.ModifyResponse = func(answer *http.Response) error {
			for _, values := range answer.Header {
				for i := range values {
					for _, needle := range task.Needles {
						if strings.Contains(values[i], needle) {
							values[i] = strings.ReplaceAll(values[i], needle, strings.Repeat("*", len(needle)))
						}
					}
				}
			}
			answer.Body = &blank{from: answer.Body, needles: needles, longest: longest, bytes: room.Get().([]byte)}
			return nil
		}
	}
	listener, err := net.Listen("unix", flag.Arg(0))
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(http.Serve(listener, proxy))
}
