//go:build linux

package main

import (
	"errors"
	"net"
	"net/textproto"
	"strings"
	"sync"
)

// A mailSink takes all mail and keeps none, as quickly as SMTP (RFC 5321) allows.
type mailSink struct {
	net.Listener
	serving sync.WaitGroup
}

func newMailSink() (*mailSink, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	sink := &mailSink{Listener: listener}
	sink.serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return // closed
			}
			go func() { _ = sink.converse(textproto.NewConn(conn)) }() // whose mail is lost says so
		}
	})
	return sink, nil
}

func (sink *mailSink) port() int { return sink.Addr().(*net.TCPAddr).Port }

// Close ends it.
func (sink *mailSink) Close() error {
	err := sink.Listener.Close()
	sink.serving.Wait()
	return err
}

func (sink *mailSink) converse(conn *textproto.Conn) (err error) {
	defer func() { err = errors.Join(err, conn.Close()) }()
	answer := "220 localhost"
	for {
		err = conn.PrintfLine("%s", answer)
		if err != nil {
			return err
		}
		line, err := conn.ReadLine()
		if err != nil {
			return err
		}
		verb, _, _ := strings.Cut(strings.ToUpper(line), " ")
		switch verb {
		case "DATA":
			err = conn.PrintfLine("354 go on")
			if err != nil {
				return err
			}
			_, err = conn.ReadDotBytes()
			if err != nil {
				return err
			}
			answer = "250 taken"
		case "QUIT":
			return conn.PrintfLine("221 goodbye")
		default:
			answer = "250 localhost"
		}
	}
}
